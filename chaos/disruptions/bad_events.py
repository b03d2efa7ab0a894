"""Events whose handlers fail in every way, among other events; and a delivery that nobody can read.

The disruption ends when each of its events has a final outcome: until then, no earlier version may run, which cannot
handle them.
"""

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Final

import asyncpg  # type: ignore[import-untyped]  # it has no type hints
from redis.exceptions import RedisError

from chaos.stack import Stack
from spokes.audit.records import TERMINAL
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.simulator.errors import JsonObject

_FIRST_ID: Final = 8_000_000_000  # ids of these events
UNREADABLE_JOB: Final = "unreadable-job"
_QUICK: Final[tuple[tuple[str, str], ...]] = (
    *((name, "") for name in ("ok", "cancelled_task", "cancels_itself", "cancels_itself_later")),
    *((name, "") for name in ("exits_in_group", "exits_in_gather", "exits_in_background")),
    *(
        ("raises", name)
        for name in ("CancelledError", "GeneratorExit", "KeyboardInterrupt", "SystemExit", "OwnBaseException",
                     "BaseExceptionGroup", "bug and transient")
    ),
)  # fmt: skip
_SLOW: Final = ("swallows_cancellation", "never_ends", "blocks")  # each takes twice HANDLER_TIMEOUT_S
_END_TIMEOUT_S: Final = 150.0
_POLL_S: Final = 1.0
_numbers: Final = itertools.count()


async def send_bad_events(stack: Stack, duration_s: float, rng: Random) -> None:
    """Send an event for every quick kind of bad handler, and one for a slow kind."""
    del duration_s
    async with stack.exclusive("bad events"):
        slow = rng.choice(_SLOW)
        stack.may_end_workers |= slow == "blocks"
        await _send_and_wait(stack, [*_QUICK, (slow, "")], rng)


async def send_poison(stack: Stack, duration_s: float, rng: Random) -> None:
    """Send an event whose handler kills its worker, and queue a job that is not a delivery."""
    del duration_s
    async with stack.exclusive("bad events"):
        stack.may_end_workers = True
        async with stack.redis() as redis, redis.pipeline(transaction=True) as pipeline:
            job_id = f"{stack.sim.portal.config.portal_id}-{UNREADABLE_JOB}-{next(_numbers)}"
            pipeline.set(JOB_KEY_PREFIX + job_id, rng.randbytes(rng.randint(0, 2000)))
            pipeline.zadd(JOB_QUEUE, {job_id: 0})
            with suppress(RedisError, OSError):  # the server is being disrupted, too
                await pipeline.execute()
        await _send_and_wait(stack, [("kills_worker", "")], rng)


async def _send_and_wait(stack: Stack, changes: Sequence[tuple[str, str]], rng: Random) -> None:
    contacts = stack.sim.crm.records(stack.sim.crm.types.resolve("contacts"))
    ids = sorted(int(record.id) for record in contacts) or [1]
    elements = [_element(stack, rng.choice(ids), name, value) for name, value in changes]
    stack.sim.sender.submit(stack.sim.portal.config.portal_id, elements)
    event_ids = [element["eventId"] for element in elements]
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_TIMEOUT_S):
            while not await _have_ended(stack, event_ids):  # noqa: ASYNC110 - other processes end them
                await asyncio.sleep(_POLL_S)


def _element(stack: Stack, object_id: int, name: str, value: str) -> JsonObject:
    return {
        "eventId": _FIRST_ID + next(_numbers), "subscriptionId": 1, "appId": 1, "attemptNumber": 0,
        "portalId": stack.sim.portal.config.portal_id, "objectId": object_id, "occurredAt": stack.sim.clock.now_ms(),
        "subscriptionType": "contact.propertyChange", "changeSource": "CRM_UI", "propertyName": name,
        "propertyValue": value,
    }  # fmt: skip


async def _have_ended(stack: Stack, event_ids: Sequence[int]) -> bool:
    """Return whether each of these events has a final outcome in the audit store; False while the store is down."""
    query = "SELECT count(DISTINCT event_id) FROM audit_records WHERE event_id = ANY($1) AND outcome = ANY($2)"
    try:
        connection = await asyncpg.connect(stack.direct_environment["DATABASE_URL"])
        try:
            ended = await connection.fetchval(query, list(event_ids), [str(outcome) for outcome in TERMINAL])
        finally:
            connection.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return bool(ended == len(event_ids))
