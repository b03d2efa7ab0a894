"""spokes.crm.transport.rate_budget.ConcurrencyLimit: who waits for a thread of the client."""

import asyncio

import pytest

from spokes.crm.transport.rate_budget import ConcurrencyLimit

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
