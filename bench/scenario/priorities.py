"""Interactive events beside an import: how long each takes, compared with an idle system, and what the import gets."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from bench.workers import PORTAL, TOKEN, running_worker, wait_until_empty
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.priority import Priority
from spokes.core.redis.keys import IMPORT_QUEUE, JOB_KEY_PREFIX, QUEUES, WAKE_CHANNEL
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import Limits, PortalConfig, SimulatorConfig

_LIMIT: Final = 100
_WINDOW_S: Final = 10
_DELIVERY_SIZE: Final = 10
_SOURCES: Final[dict[Priority, str]] = {"interactive": "CRM_UI", "import": "IMPORT"}


@dataclass(frozen=True, slots=True)
class PriorityResult:
    """Seconds from a change to the end of its handler, and the import's share of the calls that were left to it.

    The share is taken while an import is queued. `import_s` is how long the import took, at most until the last change.
    """

    idle_p95_s: float
    busy_p50_s: float
    busy_p95_s: float
    busy_max_s: float
    import_share: float
    import_s: float
    dropped: int

    @property
    def is_right(self) -> bool:
        """Whether both classes get what they may expect."""
        is_fast = self.busy_p95_s <= 1.5 * self.idle_p95_s + 0.1
        return is_fast and self.import_share >= 0.9 and not self.dropped


async def run_priorities(
    redis: Redis, url: str, data: str, *, imports: int, is_single: bool, events: int = 60
) -> PriorityResult:
    """Send an interactive event a second to one worker, on its own and then beside a queued import.

    Args:
        redis: the deployment's Redis, at `url`.
        url: see `redis`.
        data: the deployment's folder.
        imports: number of imported contacts.
        is_single: whether each event makes one call that it cannot share with others, and not a read and an update.
        events: number of interactive events in each part.
    """
    config = PortalConfig(portal_id=PORTAL, token=TOKEN, limits=Limits(ten_secondly=_LIMIT))
    async with Simulator(SimulatorConfig(portals=(config,))) as sim:
        type_ = sim.crm.types.resolve("contacts")
        ids = [int(sim.crm.create(type_, {"city": "Berlin"}, USER).id) for _ in range(imports + 2 * events)]
        imported, edited = ids[: -2 * events], ids[-2 * events :]
        environ = {"HANDLERS": "bench.handlers.priorities", "HUBSPOT_API_URL": sim.url, "HUBSPOT_ACCESS_TOKEN": TOKEN}
        if is_single:
            environ["BENCH_SINGLE_CALLS"] = "1"
        await redis.flushall()
        with running_worker(url, data, "spokes", **environ):
            await asyncio.sleep(3)
            await _edit_every_second(redis, edited[:events])
            await _wait_for(redis, events)
            idle = await _seconds(redis)
            await asyncio.sleep(_WINDOW_S)  # until all calls are allowed again
            await redis.delete("priorities:interactive")
            for first in range(0, imports, _DELIVERY_SIZE):
                await _queue(redis, imported[first : first + _DELIVERY_SIZE], "import")
            began_ms = time.time() * 1000
            began, calls_before = time.monotonic(), len(sim.requests)
            ending = asyncio.create_task(_import_end(redis))
            await _edit_every_second(redis, edited[events:])
            seconds = (ending.result() if ending.done() else time.monotonic()) - began
            ending.cancel()
            await _wait_for(redis, events)
            busy = await _seconds(redis)
            ended_ms = began_ms + 1000 * seconds
            calls = sum(call.at_ms <= ended_ms for call in list(sim.requests)[calls_before:])
            # What interactive work leaves: the calls of a rolling limit in this time, less those of each event.
            interactive = min(events, int(seconds) + 1) * (1 if is_single else 2)
            share = (calls - interactive) / (_LIMIT * seconds / _WINDOW_S - interactive)
            await wait_until_empty(redis, 600.0)
            done = int(await redis.llen("priorities:import"))  # type: ignore[misc]  # redis-py types one class for sync and async
    return PriorityResult(
        _percentile(idle, 0.95),
        _percentile(busy, 0.5),
        _percentile(busy, 0.95),
        busy[-1],
        share,
        seconds,
        imports - done,
    )


async def _import_end(redis: Redis) -> float:
    """Wait until no import is queued; return when, on the monotonic clock."""
    while await redis.zcard(IMPORT_QUEUE):  # noqa: ASYNC110 - another process empties it
        await asyncio.sleep(0.05)
    return time.monotonic()


async def _edit_every_second(redis: Redis, ids: list[int]) -> None:
    began = time.monotonic()
    for number, object_id in enumerate(ids):
        await asyncio.sleep(max(0.0, began + number - time.monotonic()))
        await _queue(redis, [object_id], "interactive")


async def _queue(redis: Redis, ids: list[int], priority: Priority) -> None:
    now_ms = time.time_ns() // 1_000_000
    entries = tuple(
        Entry(
            f"{object_id:020x}",
            0,
            {
                "eventId": object_id, "subscriptionId": 1, "portalId": PORTAL, "appId": 7, "attemptNumber": 0,
                "occurredAt": now_ms, "subscriptionType": "contact.propertyChange", "objectId": object_id,
                "propertyName": "city", "propertyValue": "Berlin", "changeSource": _SOURCES[priority],
            },
        )
        for object_id in ids
    )  # fmt: skip
    delivery = Delivery(new_delivery_id(PORTAL), PORTAL, now_ms, entries, priority)
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, now_ms))
        pipeline.zadd(QUEUES[priority], {delivery.id: now_ms})
        pipeline.publish(WAKE_CHANNEL, "")
        await pipeline.execute()


async def _wait_for(redis: Redis, count: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if await redis.llen("priorities:interactive") >= count:  # type: ignore[misc]  # as above
            return
        await asyncio.sleep(0.05)


async def _seconds(redis: Redis) -> list[float]:
    stored = await redis.lrange("priorities:interactive", 0, -1)  # type: ignore[misc]  # as above
    return sorted(float(each) for each in stored)


def _percentile(sorted_values: list[float], share: float) -> float:
    return (
        sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))] if sorted_values else float("inf")
    )
