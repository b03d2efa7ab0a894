"""One portal's events beside another portal's backlog: how long each takes, whatever becomes of the other's calls."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from bench.hubspots.installed_portals import install, oauth_environ
from bench.workers import running_worker
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE, WAKE_CHANNEL
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import Latency, SimulatorConfig

BUSY: Final = 701  # the portal with the backlog
CALM: Final = 702  # the portal with an event a second
_MAX_P95_S: Final = 1.0
_DISTURBANCES: Mapping[str, Callable[[Simulator], object]] = {
    "": lambda _: None,
    "refused": lambda sim: sim.faults.add(Fault(portal_id=BUSY, status=401)),
    "failing": lambda sim: sim.faults.add(Fault(portal_id=BUSY, status=503)),
    "hanging": lambda sim: sim.faults.add(Fault(portal_id=BUSY, latency=Latency(60_000))),
    "uninstalled": lambda sim: sim.installs.uninstall(BUSY),
}
DISTURBANCES: Final = tuple(_DISTURBANCES)


@dataclass(frozen=True, slots=True)
class PortalsResult:
    """Seconds from a change of the calm portal to the end of its handler; events of both portals that were done."""

    disturbance: str
    p50_s: float
    p95_s: float
    max_s: float
    done: int
    missing: int
    busy_done: int

    @property
    def is_right(self) -> bool:
        """Whether the calm portal gets what it may expect."""
        return self.p95_s < _MAX_P95_S and not self.missing


async def run_portals(
    redis: Redis, url: str, data: str, *, backlog: int, size: int = 10, events: int = 60, disturbance: str = ""
) -> PortalsResult:
    """Queue the backlog of one portal, and send an event of another one each second; two workers run them.

    Args:
        redis: the deployment's Redis, at `url`.
        url: see `redis`.
        data: the deployment's folder.
        backlog: events of the busy portal, each of which makes a call of its own.
        size: events of its deliveries.
        events: of the calm portal.
        disturbance: what becomes of the busy portal's calls: one of DISTURBANCES.
    """
    folder = tempfile.mkdtemp(prefix=f"portals-{disturbance or 'limit'}-{size}-", dir=data)
    async with Simulator(SimulatorConfig()) as sim:
        await install(folder, sim, (BUSY, CALM))
        contacts = sim.portals[CALM].crm.types.resolve("contacts")
        ids = [int(sim.portals[CALM].crm.create(contacts, {"city": "Berlin"}, USER).id) for _ in range(events)]
        environ = {"HANDLERS": "bench.handlers.portals", **oauth_environ(folder, sim)}
        await redis.flushall()
        await _queue_backlog(redis, backlog, size)
        with (
            running_worker(url, folder, "spokes", **environ),
            running_worker(url, folder, "spokes", **environ),
        ):
            async with asyncio.timeout(60):
                while not await _done(redis, BUSY):  # noqa: ASYNC110 - other processes get there
                    await asyncio.sleep(0.1)
            await asyncio.sleep(3)
            _DISTURBANCES[disturbance](sim)
            await asyncio.sleep(1)
            began = time.monotonic()
            for number, object_id in enumerate(ids):
                await asyncio.sleep(max(0.0, began + number - time.monotonic()))
                await _queue(redis, CALM, [object_id])
                await redis.publish(WAKE_CHANNEL, "")
            deadline = time.monotonic() + 60
            while await _done(redis, CALM) < events and time.monotonic() < deadline:  # noqa: ASYNC110 - other processes get there
                await asyncio.sleep(0.05)
        stored = await redis.lrange(f"portals:{CALM}", 0, -1)  # type: ignore[misc]  # redis-py types one class for sync and async
        seconds = sorted(float(each) for each in stored) or [float("inf")]
        return PortalsResult(
            disturbance,
            seconds[len(seconds) // 2],
            seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))],
            seconds[-1],
            len(stored),
            events - len(stored),
            await _done(redis, BUSY),
        )


async def _done(redis: Redis, portal_id: int) -> int:
    return int(await redis.llen(f"portals:{portal_id}"))  # type: ignore[misc]  # as above


async def _queue_backlog(redis: Redis, backlog: int, size: int) -> None:
    for first in range(0, backlog, size):
        await _queue(redis, BUSY, list(range(first + 1, first + size + 1)))


async def _queue(redis: Redis, portal_id: int, ids: list[int]) -> None:
    now_ms = time.time_ns() // 1_000_000
    entries = tuple(
        Entry(
            f"{object_id:020x}",
            0,
            {
                "eventId": object_id, "subscriptionId": 1, "portalId": portal_id, "appId": 7, "attemptNumber": 0,
                "occurredAt": now_ms, "subscriptionType": "contact.propertyChange", "objectId": object_id,
                "propertyName": "city", "propertyValue": "Berlin", "changeSource": "CRM_UI",
            },
        )
        for object_id in ids
    )  # fmt: skip
    delivery = Delivery(new_delivery_id(portal_id), portal_id, now_ms, entries)
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, now_ms))
        pipeline.zadd(JOB_QUEUE, {delivery.id: now_ms})
        await pipeline.execute()
