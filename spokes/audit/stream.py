"""The Redis stream that carries audit records to the archiver.

Records are appended inside the caller's transaction, so an event is settled and recorded together or not at all.
"""

from collections.abc import Mapping
from operator import attrgetter
from typing import Final

import orjson
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from spokes.audit.entry_signature import split_signature, with_signature
from spokes.audit.records import FIELD_NAMES, Action, AuditRecord, Outcome
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis.keys import AUDIT_STREAM

_field_values: Final = attrgetter(*FIELD_NAMES)
ENTRY_FIELD: Final = b"r"  # the only field of a stream entry; short, because each entry contains the name


def encode(record: AuditRecord) -> bytes:
    """Return the bytes of a stream entry; empty fields are left out, because they are the defaults."""
    values = zip(FIELD_NAMES, _field_values(record), strict=True)
    return encode_fields({name: value for name, value in values if value or value == 0})


def encode_fields(fields: Mapping[str, object]) -> bytes:
    """Return the bytes of a stream entry from fields made by `records.event_fields` or `delivery_fields`."""
    return with_signature(orjson.dumps(fields))


def decode(payload: bytes) -> AuditRecord:
    """Return the record in the bytes of a stream entry.

    Raises:
        UnreadableDelivery: `encode` did not make them.
    """
    try:
        record_fields = orjson.loads(split_signature(payload)[0])
        record_fields["action"] = Action(record_fields["action"])
        if "outcome" in record_fields:
            record_fields["outcome"] = Outcome(record_fields["outcome"])
        return AuditRecord(**record_fields)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableDelivery from error


def append(pipeline: Pipeline, record: AuditRecord) -> None:
    """Add the append of `record` to the caller's pipeline, which the caller executes."""
    pipeline.xadd(AUDIT_STREAM, {ENTRY_FIELD: encode(record)})


async def append_now(redis: Redis, record: AuditRecord) -> None:
    """Append a record that belongs to no transaction.

    Raises:
        RedisError, OSError: Redis does not answer; the record may be missing.
    """
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: encode(record)})


async def backlog(redis: Redis) -> int:
    """Return how many records wait for the archiver.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return int(await redis.xlen(AUDIT_STREAM))
