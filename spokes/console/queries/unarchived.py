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
from spokes.audit.stream import FIELD
from spokes.console.queries.records import Recorded
from spokes.core.delivery import AUDIT_STREAM
from spokes.core.errors import UnreadableDelivery

_LOOKED_AT: Final = 2_000  # entries, the newest
_NAMES: Final = ("object_id", "event_key", "delivery_id")
_Given: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Unarchived:
    """The newest entries of the stream, the newest first; `complete` says whether that is all of it.

    `places`: by the id of an object, an event or a delivery, which entries name it.
    """

    entries: tuple[_Given, ...]
    places: Mapping[str, Sequence[int]]
    complete: bool

    def naming(self, *ids: str) -> list[Recorded]:
        """Return the records of these objects, events or deliveries, the newest first."""
        # Only what matches becomes a record: most of the stream is others'.
        wanted = sorted({place for name in ids for place in self.places.get(name, ())})
        found = (_record(self.entries[place]) for place in wanted)
        return [record for record in found if record]


async def unarchived(redis: Redis) -> Unarchived:
    """Return what waits in the stream.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    found = await redis.xrevrange(AUDIT_STREAM, count=_LOOKED_AT)
    entries = tuple([_given(entry.get(FIELD, b"")) for _, entry in found])
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, given in enumerate(entries):
        for name in _NAMES:
            if isinstance(told := given.get(name), str):
                places[told].append(place)
    return Unarchived(entries, places, len(found) < _LOOKED_AT)


def together(fresh: Collection[Recorded], stored: Collection[Recorded]) -> tuple[Recorded, ...]:
    """Join what waits in the stream and what is stored, each record once, the newest first."""
    joined = {record.id: record for record in (*fresh, *stored)}
    return tuple(sorted(joined.values(), key=lambda record: (record.at, record.id), reverse=True))


def _given(payload: bytes) -> _Given:
    """Return the fields of an entry; none for what is no record, which the archiver tells of."""
    try:
        given = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return given if isinstance(given, dict) else {}


def _record(given: _Given) -> Recorded | None:
    try:
        return Recorded.from_row(to_row(given))
    except UnreadableDelivery:
        return None
