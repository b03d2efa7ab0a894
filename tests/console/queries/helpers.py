"""Data for the tests of the queries: deliveries, dead letters, and the archiver."""

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.queue.dead_letters import DeadLetter
from tests.support.deployment import KEY
from tests.support.events import event, store_dead_letters

PORTAL, OTHER_PORTAL = 50112233, 50112244
CONTACT_ID = str(318845120001)


async def enqueue(redis: Redis, *elements: dict[str, object], portal: int = PORTAL, due_in_s: float = 0.0) -> str:
    """Queue a delivery of these events; return its id."""
    now = clock.now_ms()
    entries = tuple(Entry(f"{at:020x}", 0, element) for at, element in enumerate(elements, start=1))
    delivery = Delivery(f"{portal}-{now:x}-{due_in_s:.0f}", portal, now, entries)
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, now))
    await redis.zadd(JOB_QUEUE, {delivery.id: now + round(due_in_s * 1000)})
    return delivery.id


async def store_letter(redis: Redis, number: int, reason: str = "object_not_found", portal: int = PORTAL) -> DeadLetter:
    """Store a dead letter that died at `1000 + number`."""
    element = event(number, portalId=portal)
    letter = DeadLetter(portal, "d", Entry(f"{number:032x}", 3, element), reason, "contacts.on_creation", 1000 + number)
    await store_dead_letters(redis, letter)
    return letter


async def archive(redis: Redis, engine: AsyncEngine) -> None:
    """Archive all records of the stream."""
    await Archiver(redis, engine, KEY).drain()
