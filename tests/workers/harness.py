"""A worker's parts without arq, with handlers that record their calls."""

import asyncio

from redis.asyncio import Redis

from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.intake.event_keys import EventKeys
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.routing import Router, uses
from spokes.tools import Tools
from tests.support.events import event, recorded
from workers.delivery.run_delivery import WorkerParts, run_delivery
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd

PORTAL = 50112233
KEYS = EventKeys(b"secret")


class Harness:
    """Worker parts with handlers that record their calls; the first handler also raises the next of `errors`.

    A call is recorded as object id, oldest value, value, number of coalesced events.
    """

    def __init__(self, settings: Settings, redis: Redis, crm: CRM) -> None:
        self.redis = redis
        self.crm = crm
        self.calls: list[tuple[str, str | None, str | None, int]] = []
        self.errors: list[Exception] = []
        router = Router()

        @router.register("contact.propertyChange")
        @router.register("contact.creation")
        @router.register("contact.deletion")
        @router.register("contact.restore")
        @router.register("contact.merge")
        async def record(event: Event, tools: Tools) -> None:
            self.calls.append((event.survivor_id, tools.oldest_value, event.property_value, tools.coalesced_count))
            if self.errors:
                raise self.errors.pop(0)

        @router.register("contact.propertyChange", property="each")
        @uses(each_event=True)
        async def record_each(event: Event, tools: Tools) -> None:
            self.calls.append((event.object_id, tools.oldest_value, event.property_value, tools.coalesced_count))

        @router.register("contact.propertyChange", property="slow")
        async def wait(event: Event, tools: Tools) -> None:
            await asyncio.sleep(30)

        self.router = router
        self.pauses = PortalPauses(redis)
        self.parts = WorkerParts.start(settings, redis, router, crm, self.pauses, holder="me", outage=RedisOutage())

    def register_writer(self) -> None:
        """Add a handler for changes of the property "written", which sets the city to Berlin."""

        @self.router.register("contact.propertyChange", property="written")
        @uses(may=("contacts.update",))
        async def write(event: Event, tools: Tools) -> None:
            await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})

    async def queue(self, *raws: dict[str, object]) -> Delivery:
        return await self.queue_entries(*(Entry(KEYS(Event(raw)), 0, raw) for raw in raws))

    async def queue_entries(self, *entries: Entry) -> Delivery:
        delivery = Delivery(new_delivery_id(PORTAL), PORTAL, 1, entries)
        await self.redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, 1))
        await self.redis.zadd(JOB_QUEUE, {delivery.id: 1})
        return delivery

    async def run(self, *deliveries: tuple[dict[str, object], ...], attempt: int = 1) -> list[DeliveryEnd]:
        """Queue deliveries and run them concurrently."""
        queued = [await self.queue(*raws) for raws in deliveries]
        jobs = [ClaimedJob(delivery.id, delivery.to_job(), attempt) for delivery in queued]
        return await asyncio.gather(*(run_delivery(job, self.parts) for job in jobs))

    async def outcomes(self) -> list[tuple[str, str]]:
        records = await recorded(self.redis)
        return [(record.outcome.value, record.reason) for record in records if record.outcome]

    def end_leases(self) -> None:
        """Let the leases of all lanes lapse, as if this process had been suspended."""
        for lane in self.parts.lanes.held.values():
            lane.lease_until = 0.0


def change(value: str, at: int, name: str = "city", object_id: int = 1, **fields: object) -> dict[str, object]:
    defaults = {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": value}
    return event(objectId=object_id, occurredAt=at, **{**defaults, **fields})


def object_event(kind: str, object_id: int, at: int = 1, **fields: object) -> dict[str, object]:
    return event(objectId=object_id, occurredAt=at, subscriptionType=f"contact.{kind}", **fields)


def merge(survivor: int, *losers: int, at: int = 5) -> dict[str, object]:
    return object_event("merge", survivor, at, primaryObjectId=survivor, mergedObjectIds=list(losers))
