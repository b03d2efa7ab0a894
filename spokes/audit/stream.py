"""The Redis stream that carries records from whoever acts to the archiver. Rule: appending rides in the caller's step.

The one who settles an event appends its record in the same transaction, so neither can happen without the other.
"""

from collections.abc import Mapping
from dataclasses import fields as fields_of
from operator import attrgetter
from typing import Final

import orjson
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.core.delivery import AUDIT_STREAM
from spokes.core.errors import UnreadableDelivery

_NAMES: Final = tuple(field.name for field in fields_of(AuditRecord))
_VALUES: Final = attrgetter(*_NAMES)
ENTRY_FIELD: Final = b"r"  # the one field of a stream entry; short, because every entry pays for it


def encode(record: AuditRecord) -> bytes:
    """Turn a record into the bytes of a stream entry; empty fields are left out, they are the defaults."""
    values = zip(_NAMES, _VALUES(record), strict=True)
    return encode_fields({name: value for name, value in values if value or value == 0})


def encode_fields(fields: Mapping[str, object]) -> bytes:
    """Turn the fields of a record into the bytes of a stream entry; see `records.event_fields`."""
    return orjson.dumps(fields)


def decode(payload: bytes) -> AuditRecord:
    """Turn the bytes of a stream entry into a record.

    Raises:
        UnreadableDelivery: not made by `encode`.
    """
    try:
        told = orjson.loads(payload)
        told["action"] = Action(told["action"])
        if "outcome" in told:
            told["outcome"] = Outcome(told["outcome"])
        return AuditRecord(**told)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as fault:
        raise UnreadableDelivery from fault


def append(pipeline: Pipeline, record: AuditRecord) -> None:
    """Queue `record` on the caller's pipeline; it is kept when the pipeline is executed."""
    pipeline.xadd(AUDIT_STREAM, {ENTRY_FIELD: encode(record)})


async def backlog(redis: Redis) -> int:
    """Return how many records wait for the archiver; the door may refuse when they are too many.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return int(await redis.xlen(AUDIT_STREAM))
