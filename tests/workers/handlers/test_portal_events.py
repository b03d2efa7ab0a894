"""Handlers of `portal.installed` and `portal.uninstalled`."""

from redis.asyncio import Redis

from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.routing import uses
from spokes.tools import Tools
from tests.workers.harness import KEYS, PORTAL, Harness
from workers.delivery.run_delivery import run_delivery
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd

GONE = 60112233  # a portal that the worker has no credentials for


async def run_event(harness: Harness, redis: Redis, event_type: str, portal_id: int) -> DeliveryEnd:
    raw: dict[str, object] = {"subscriptionType": event_type, "portalId": portal_id, "occurredAt": 5}
    delivery = Delivery(new_delivery_id(portal_id), portal_id, 1, (Entry(KEYS(Event(raw)), 0, raw),))
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, 1))
    await redis.zadd(JOB_QUEUE, {delivery.id: 1})
    return await run_delivery(ClaimedJob(delivery.id, delivery.to_job(), 1), harness.parts)


async def test_handlers_are_called_for_their_portal(harness: Harness, redis: Redis) -> None:
    seen: list[tuple[str, int, str]] = []

    @harness.router.register("portal.installed")
    @harness.router.register("portal.uninstalled")
    async def see(event: Event, tools: Tools) -> None:
        seen.append((event.kind, tools.portal.id, event.object_id))

    await run_event(harness, redis, "portal.installed", PORTAL)
    await run_event(harness, redis, "portal.uninstalled", GONE)
    assert seen == [("installed", PORTAL, ""), ("uninstalled", GONE, "")]
    assert await harness.outcomes() == [("processed", "")] * 2


async def test_crm_of_a_portal_that_removed_the_app_is_refused(harness: Harness, redis: Redis) -> None:
    @harness.router.register("portal.uninstalled")
    @uses(reads={"contacts": ("city",)})
    async def read(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.get("1")

    await run_event(harness, redis, "portal.uninstalled", GONE)
    assert await harness.outcomes() == [("dead", "not_permitted")]


async def test_install_of_a_portal_without_tokens_yet_waits(harness: Harness, redis: Redis) -> None:
    @harness.router.register("portal.installed")
    async def see(event: Event, tools: Tools) -> None: ...

    await run_event(harness, redis, "portal.installed", GONE)
    assert await harness.outcomes() == [("parked", "no_credentials")]
