"""Changes of contacts of the simulator for worker processes, and what became of them."""

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from tests.support.events import event, recorded


async def queue_changes(redis: Redis, hubspot: Simulator, *names: str, value: str) -> None:
    """Queue a change of a property of a new contact for each name."""
    for name in names:
        record = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Berlin"}, USER)
        delivery_id, at_ms = new_delivery_id(hubspot.portal.config.portal_id), clock.now_ms()
        raw = event(
            objectId=int(record.id), occurredAt=record.created_at_ms, subscriptionType="contact.propertyChange",
            propertyName=name, propertyValue=value,
        )  # fmt: skip
        delivery = Delivery(delivery_id, hubspot.portal.config.portal_id, at_ms, (Entry(f"{record.id:0>20}", 0, raw),))
        await redis.set(keys.JOB_KEY_PREFIX + delivery_id, job_payload(delivery, at_ms))
        await redis.zadd(keys.JOB_QUEUE, {delivery_id: at_ms})
        await redis.publish(keys.WAKE_CHANNEL, "")


async def outcomes(redis: Redis, *names: str) -> list[int]:
    """Return the number of attempts of each event that has one of these outcomes."""
    return [record.attempt for record in await recorded(redis) if record.outcome in names]


async def alerts(redis: Redis, action: str) -> list[str]:
    """Return the alerts that began or ended, without that of the audit store, which no test server replaces here."""
    reasons = [record.reason for record in await recorded(redis) if record.action == action]
    return [reason for reason in reasons if reason != Alert.AUDIT_UNAVAILABLE]
