"""spokes.crm.transport.concurrency_limit.ConcurrencyLimit: who waits for a thread of the client."""

import asyncio

import pytest

from spokes.crm.transport.concurrency_limit import ConcurrencyLimit

PORTAL = 7


async def test_interactive_call_gets_a_thread_while_imports_hold_all_of_theirs() -> None:
    limit = ConcurrencyLimit(8)
    for _ in range(4):
        await limit.acquire(PORTAL, "import")
    waiting = asyncio.create_task(limit.acquire(PORTAL, "import"))
    await asyncio.sleep(0)
    assert not waiting.done()
    await limit.acquire(PORTAL, "interactive")
    limit.release(PORTAL, "import")
    await waiting


async def test_cancelled_wait_for_a_thread_holds_none() -> None:
    limit = ConcurrencyLimit(1)
    await limit.acquire(PORTAL, "interactive")
    waiting = asyncio.create_task(limit.acquire(PORTAL, "import"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    limit.release(PORTAL, "interactive")
    await limit.acquire(PORTAL, "import")


async def test_calls_of_two_portals_that_hang_leave_threads_to_a_third() -> None:
    limit = ConcurrencyLimit(32)
    hanging = [asyncio.create_task(limit.acquire(portal, "interactive")) for portal in (1, 2) for _ in range(40)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await limit.acquire(PORTAL, "interactive")
    for task in hanging:
        task.cancel()


async def test_portal_alone_uses_three_quarters_of_the_threads() -> None:
    limit = ConcurrencyLimit(32)
    calls = [asyncio.create_task(limit.acquire(PORTAL, "interactive")) for _ in range(40)]
    await asyncio.sleep(0)
    assert sum(call.done() for call in calls) == 24
    for call in calls:
        call.cancel()


async def test_released_threads_go_to_those_who_wait_oldest_first() -> None:
    limit = ConcurrencyLimit(1)
    order: list[int] = []

    async def use(portal_id: int) -> None:
        await limit.acquire(portal_id, "interactive")
        order.append(portal_id)
        limit.release(portal_id, "interactive")

    await limit.acquire(PORTAL, "interactive")
    waiting = [asyncio.create_task(use(portal_id)) for portal_id in (3, 1, 2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    limit.release(PORTAL, "interactive")
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [1, 2]
