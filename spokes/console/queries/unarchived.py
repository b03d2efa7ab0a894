"""Records that wait in Redis for the archiver. Rule: read once for a question, however many words it looks for.

To miss none, read the stream before the store: a record leaves the stream only once it is stored.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson
from redis.asyncio import Redis

from spokes.audit.rows import to_row
from spokes.audit.stream import ENTRY_FIELD
from spokes.console.queries.records import RecordView
from spokes.core.delivery import AUDIT_STREAM
from spokes.core.errors import UnreadableDelivery

_MAX_ENTRIES: Final = 2_000  # entries, the newest
_ID_FIELDS: Final = ("object_id", "event_key", "delivery_id")
_EntryFields: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class UnarchivedRecords:
    """The newest entries of the stream, the newest first; `complete` says whether that is all of it.

    `places`: by the id of an object, an event or a delivery, which entries name it.
    """

    entries: tuple[_EntryFields, ...]
    positions: Mapping[str, Sequence[int]]
    is_complete: bool

    def records_naming(self, *ids: str) -> list[RecordView]:
        """Return the records of these objects, events or deliveries, the newest first."""
        # Only what matches becomes a record: most of the stream is others'.
        wanted = sorted({place for name in ids for place in self.positions.get(name, ())})
        found = (_to_view(self.entries[place]) for place in wanted)
        return [record for record in found if record]


async def load_unarchived(redis: Redis) -> UnarchivedRecords:
    """Return what waits in the stream.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    found = await redis.xrevrange(AUDIT_STREAM, count=_MAX_ENTRIES)
    entries = tuple([_parse_entry(entry.get(ENTRY_FIELD, b"")) for _, entry in found])
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, given in enumerate(entries):
        for name in _ID_FIELDS:
            if isinstance(told := given.get(name), str):
                places[told].append(place)
    return UnarchivedRecords(entries, places, len(found) < _MAX_ENTRIES)


def merge_with_stored(unarchived: Collection[RecordView], stored: Collection[RecordView]) -> tuple[RecordView, ...]:
    """Join what waits in the stream and what is stored, each record once, the newest first."""
    joined = {record.id: record for record in (*unarchived, *stored)}
    return tuple(sorted(joined.values(), key=lambda record: (record.at, record.id), reverse=True))


def _parse_entry(payload: bytes) -> _EntryFields:
    """Return the fields of an entry; none for what is no record, which the archiver tells of."""
    try:
        given = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return given if isinstance(given, dict) else {}


def _to_view(entry: _EntryFields) -> RecordView | None:
    try:
        return RecordView.from_row(to_row(entry))
    except UnreadableDelivery:
        return None
