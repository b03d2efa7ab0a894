"""Something else writes keys of ours with another type of value: it costs its own item at most."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.key_table import KEYS as KEY_TABLE
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.simulator.app import Simulator
from tests.support.events import recorded
from tests.workers.conftest import RunAll
from tests.workers.harness import KEYS, PORTAL, change
from workers.queue.claim_gate import ClaimGate
from workers.queue.foreign_values import queue_jobs_again
from workers.worker import build_worker

DELIVERY: Final = f"{PORTAL}-18aaaaaaaaa-0123456789"
EARLY: Final = (change("0.3", 1, "waits", 1), change("0.3", 2, "waits", 2))  # run while the keys are written
LATE: Final = (change("x", 3, "ok", 1), change("x", 4, "ok", 4), change("x", 5, "nobody", 5))
PARAMETERS: Final = {  # of the names of keys: those of the first event; others do not matter
    "portal_id": str(PORTAL), "delivery_id": DELIVERY, "event_key": KEYS(Event(EARLY[0])), "object_type": "contact",
    "object_id": "1", "handler": "chaos.bad_handlers.waits", "reason": "no_handler", "call_kind": "all",
    "kind": "calls",
}  # fmt: skip
OWN_PAYLOAD: Final = keys.JOB_KEY_PREFIX + "{delivery_id}"  # the events themselves
MERGED: Final = "spokes:{portal_id}:merged:{object_type}:{object_id}"
WRITES: Final[dict[str, Callable[[Any, str], Any]]] = {
    "string": lambda redis, name: redis.set(name, "text"),
    "list": lambda redis, name: redis.rpush(name, "text"),
    "set": lambda redis, name: redis.sadd(name, "text"),
    "sorted set": lambda redis, name: redis.zadd(name, {"text": 1}),
    "hash": lambda redis, name: redis.hset(name, "text", "1"),
    "stream": lambda redis, name: redis.xadd(name, {"text": "1"}),
}


class Foreign(NamedTuple):
    """A key of the table and the type that something else writes."""

    pattern: str
    type: str

    async def write(self, redis: Redis) -> None:
        name = self.pattern.format_map(defaultdict(lambda: "1", PARAMETERS))
        async with redis.pipeline(transaction=True) as pipeline:  # a worker may write the key at any time
            pipeline.delete(name)
            WRITES[self.type](pipeline, name)
            await pipeline.execute()


TABLE: Final = [
    Foreign(key.pattern, type_)
    for key in KEY_TABLE
    if key.type != "channel" and key.pattern != OWN_PAYLOAD
    for type_ in WRITES
    if type_ != key.type
]


@pytest.fixture(autouse=True)
def _captured_logs() -> Iterator[None]:
    """Format no tracebacks: without our log set-up that takes seconds for each."""
    with capture_logs():
        yield


async def queue(redis: Redis, delivery_id: str, *raws: dict[str, object]) -> None:
    """Queue a delivery, as often as HubSpot would send its request: none is accepted while the queue is unusable."""
    entries = tuple(Entry(KEYS(Event(raw)), 0, raw) for raw in raws)
    delivery = Delivery(delivery_id, PORTAL, clock.now_ms(), entries)
    await redis.set(keys.JOB_KEY_PREFIX + delivery.id, job_payload(delivery, delivery.received_at))
    while True:
        try:
            await redis.zadd(keys.JOB_QUEUE, {delivery.id: delivery.received_at})
        except ResponseError:
            await asyncio.sleep(0.1)
        else:
            return


async def ends(redis: Redis) -> list[tuple[str, str]]:
    try:
        records = await recorded(redis)
    except ResponseError:  # the audit stream is one of the keys
        return []
    outcomes = [(record.outcome.value, record.reason) for record in records if record.outcome]
    return sorted(outcome for outcome in outcomes if outcome[0] not in {"parked", "retried"})


@pytest.fixture
def run_beside(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> Callable[..., Any]:
    """Return a function that writes keys while a worker runs, and returns how the events ended."""

    async def run(*written: Foreign) -> list[tuple[str, str]]:
        more = {
            "RETRY_SCHEDULE_S": "0.05,0.05", "OUTAGE_RETRY_HOURS": "0", "DATABASE_URL": "postgres://127.0.0.1:1/none",
            "HANDLERS": "chaos.bad_handlers", "HUBSPOT_API_URL": hubspot.url,
        }  # fmt: skip
        await queue(redis, DELIVERY, *EARLY)
        worker = build_worker(Settings.from_env({**environ, **more}))
        worker._handle_signals = False
        running = asyncio.create_task(worker.async_run())
        try:
            async with asyncio.timeout(60):
                while not worker.tasks:  # noqa: ASYNC110 - nothing signals it
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)  # the handlers run
                for foreign in written:
                    await foreign.write(redis)
                await queue(redis, new_delivery_id(PORTAL), *LATE)
                while len(await ends(redis)) < len((*EARLY, *LATE)):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await worker.close()
        return await ends(redis)

    return run


ALL_RUN: Final = [("dead", "no_handler"), *[("processed", "")] * 4]


@pytest.mark.parametrize("type_", WRITES)
async def test_no_event_is_lost_if_all_keys_are_written_at_once(run_beside: Callable[..., Any], type_: str) -> None:
    written = [foreign for foreign in TABLE if foreign.type == type_ and foreign.pattern != MERGED]
    if type_ != "stream":  # what was in the stream is gone with it
        written = [foreign for foreign in written if foreign.pattern != keys.AUDIT_STREAM]
    assert await run_beside(*written) == ALL_RUN


# Every key once or twice, with each type in turn; the test above has every type of every key.
@pytest.mark.slow
@pytest.mark.parametrize("foreign", TABLE[::4], ids=lambda foreign: f"{foreign.pattern}-{foreign.type}")
async def test_no_event_is_lost_if_one_key_is_written(run_beside: Callable[..., Any], foreign: Foreign) -> None:
    assert await run_beside(foreign) == ALL_RUN


async def test_unreadable_map_of_merged_records_costs_the_events_of_that_object_alone(
    redis: Redis, run_all: RunAll
) -> None:
    await Foreign(MERGED, "list").write(redis)
    await redis.set(keys.has_merges(PORTAL), 1)
    outcomes = await run_all(*(change("x", number, "ok", number) for number in (1, 2, 3)))
    final = sorted(outcome for outcome in outcomes if outcome[0] not in {"parked", "retried"})
    assert final == [("dead", "internal_error"), ("processed", ""), ("processed", "")]


@pytest.mark.parametrize("key", [keys.IN_PROGRESS_KEY_PREFIX + DELIVERY, keys.lane(PORTAL, "contact", "1")])
@pytest.mark.parametrize("ttl_s", [None, 3600])
async def test_text_that_is_no_lease_of_ours_keeps_no_event_waiting(
    redis: Redis, run_all: RunAll, key: str, ttl_s: int | None
) -> None:
    await redis.set(key, "not a worker", ex=ttl_s)
    await queue(redis, DELIVERY, change("x", 1, "ok", 1))
    assert await run_all(change("x", 2, "ok", 2)) == [("processed", "")] * 2


async def test_jobs_are_queued_again_after_their_queue_was_overwritten(redis: Redis, settings: Settings) -> None:
    await queue(redis, DELIVERY, *EARLY)
    await Foreign(keys.JOB_QUEUE, "string").write(redis)
    await ClaimGate(redis, settings).measure()
    assert await redis.zrange(keys.JOB_QUEUE, 0, -1) == [DELIVERY.encode()]
    assert await redis.zcard(keys.IMPORT_QUEUE) == 0


async def test_queued_jobs_keep_their_places_when_others_are_queued_again(redis: Redis) -> None:
    await queue(redis, DELIVERY, *EARLY)
    before = await redis.zrange(keys.JOB_QUEUE, 0, -1, withscores=True)
    await queue_jobs_again(redis)
    assert await redis.zrange(keys.JOB_QUEUE, 0, -1, withscores=True) == before


async def test_pauses_last_although_something_overwrites_them(redis: Redis) -> None:
    pauses, other_worker = PortalPauses(redis), PortalPauses(redis)
    await pauses.pause(PORTAL, "operator")
    await other_worker.refresh()
    await Foreign(keys.PAUSED_PORTALS, "list").write(redis)
    await pauses.refresh()
    await other_worker.refresh()
    assert (pauses.is_paused(PORTAL), other_worker.is_paused(PORTAL)) == (True, True)
    assert await redis.exists(keys.foreign_value(keys.PAUSED_PORTALS))


async def test_replaced_key_is_alerted(redis: Redis, settings: Settings) -> None:
    await Foreign(keys.REGISTRATIONS, "list").write(redis)
    with capture_logs() as logs:
        await ClaimGate(redis, settings).measure()
    assert [log["keys"] for log in logs if log["event"] == Alert.REDIS_KEY_REPLACED] == [[keys.REGISTRATIONS]]
