"""Events, request bodies, audit records and dead letters as tests need them."""

from typing import TYPE_CHECKING

import orjson
from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import ENTRY_FIELD, append, decode
from spokes.core.redis.keys import AUDIT_STREAM
from spokes.queue.dead_letters import DeadLetter, store_commands

if TYPE_CHECKING:
    from collections.abc import Mapping


def event(number: int = 1, **fields: object) -> dict[str, object]:
    """Return an element as HubSpot sends it; `fields` replace or add, None takes away."""
    element: Mapping[str, object] = {
        "eventId": 1_000_000 + number,
        "subscriptionId": 4410001,
        "portalId": 50112233,
        "appId": 7788990,
        "occurredAt": 1795442400000 + number,
        "subscriptionType": "contact.creation",
        "attemptNumber": 0,
        "objectId": 318845120000 + number,
        "changeFlag": "CREATED",
        "changeSource": "CRM_UI",
        "sourceId": "userId:60718293",
    }
    return {name: value for name, value in {**element, **fields}.items() if value is not None}


async def append_records(redis: Redis, *records: AuditRecord) -> None:
    """Append audit records to the stream."""
    async with redis.pipeline(transaction=False) as pipeline:
        for audit_record in records:
            append(pipeline, audit_record)
        await pipeline.execute()


async def recorded(redis: Redis) -> list[AuditRecord]:
    """Return the records that wait for the archiver, the oldest first."""
    return [decode(fields[ENTRY_FIELD]) for _, fields in await redis.xrange(AUDIT_STREAM)]


async def store_dead_letters(redis: Redis, *letters: DeadLetter) -> None:
    """Store dead letters as a worker does."""
    for letter in letters:
        for command in store_commands(letter, ttl_s=3600):
            await redis.execute_command(*command)


def batch(*elements: object) -> bytes:
    """Return the body of a request."""
    return orjson.dumps(list(elements))


def record(number: int = 1, **fields: object) -> AuditRecord:
    """Return an audit record of one event; records of different numbers differ, and `fields` replace fields."""
    defaults = {
        "action": Action.EVENT,
        "outcome": Outcome.PROCESSED,
        "portal_id": 50112233,
        "event_key": f"{number:032x}",
        "event_id": 1_000_000 + number,
        "app_id": 7788990,
        "subscription_type": "contact.creation",
        "object_type": "contact",
        "object_id": str(318845120000 + number),
        "occurred_at": 1795442400000 + number,
        "delivery_id": f"50112233-{number // 100:x}-0123456789",
        "handler": "contacts.on_creation",
        "id": f"{number:022x}",
        "at": 1795442500000 + number,
    }
    return AuditRecord(**{**defaults, **fields})
