"""Audit records in the Redis stream, not archived yet. Each query reads the stream once.

Read the stream before the store: a record leaves the stream only after it is stored, so none is missed.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson
from redis.asyncio import Redis

from spokes.audit.entry_signature import split_signature
from spokes.audit.records import Outcome
from spokes.audit.rows import to_row
from spokes.audit.stream import ENTRY_FIELD
from spokes.console.queries.history.records import RecordView
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis.keys import AUDIT_STREAM

_MAX_ENTRIES: Final = 2_000  # the newest entries
_ID_FIELDS: Final = ("object_id", "event_key", "delivery_id")
_EntryFields: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class UnarchivedRecords:
    """The newest entries of the stream, newest first; `is_complete` if there are no others.

    `positions` maps the id of an object, event or delivery to the indexes of the entries that contain it.
    """

    entries: tuple[_EntryFields, ...]
    positions: Mapping[str, Sequence[int]]
    is_complete: bool

    def records_naming(self, *ids: str) -> list[RecordView]:
        """Return the records of these objects, events or deliveries, newest first."""
        # Convert only the matching entries: most of the stream concerns other objects.
        positions = sorted({position for name in ids for position in self.positions.get(name, ())})
        records = (_to_view(self.entries[position]) for position in positions)
        return [record for record in records if record]


async def load_unarchived(redis: Redis) -> UnarchivedRecords:
    """Read the stream.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    payloads = await redis.xrevrange(AUDIT_STREAM, count=_MAX_ENTRIES)
    entries = tuple([_parse_entry(payload.get(ENTRY_FIELD, b"")) for _, payload in payloads])
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, entry in enumerate(entries):
        for name in _ID_FIELDS:
            if isinstance(value := entry.get(name), str):
                positions[value].append(position)
        for name in _events_of_redelivery(entry):
            positions[name].append(position)
    return UnarchivedRecords(entries, positions, len(payloads) < _MAX_ENTRIES)


def merge_with_stored(unarchived: Collection[RecordView], stored: Collection[RecordView]) -> tuple[RecordView, ...]:
    """Merge unarchived and stored records, each once, newest first."""
    joined = {record.id: record for record in (*unarchived, *stored)}
    return tuple(sorted(joined.values(), key=lambda record: (record.at, record.id), reverse=True))


def _events_of_redelivery(entry: _EntryFields) -> list[str]:
    """Return the keys of the events of a request that came again; none for any other entry."""
    detail = entry.get("detail")
    keys = detail.get("keys") if isinstance(detail, dict) and entry.get("outcome") == Outcome.DUPLICATE else None
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def _parse_entry(payload: bytes) -> _EntryFields:
    """Return the fields of an entry; empty if it is not a record, which the archiver reports."""
    try:
        entry = orjson.loads(split_signature(payload)[0])
    except orjson.JSONDecodeError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _to_view(entry: _EntryFields) -> RecordView | None:
    try:
        return RecordView.from_row(to_row(entry))
    except UnreadableDelivery:
        return None
