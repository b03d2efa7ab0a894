"""Records that wait in Redis for the archiver. Rule: read once for a question, however many words it looks for.

To miss none, read the stream before the store: a record leaves the stream only once it is stored.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson
from redis.asyncio import Redis

from audit.rows import to_row
from audit.stream import FIELD
from console.answers.records import Recorded
from core.deliveries import AUDIT_STREAM
from core.errors import UnreadableDelivery

_LOOKED_AT: Final = 2_000  # entries, the newest
_NAMES: Final = ("object_id", "event_key", "delivery_id")
_Given: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Unarchived:
    """The newest entries of the stream, as they lie there; `complete` says whether that is all of it."""

    entries: tuple[_Given, ...]
    complete: bool

    def naming(self, *ids: str) -> list[Recorded]:
        """Return the records of these objects, events or deliveries, the newest first."""
        wanted = set(ids)
        # Only what matches becomes a record: most of the stream is others'.
        found = (_record(given) for given in self.entries if not wanted.isdisjoint(map(given.get, _NAMES)))
        return [record for record in found if record]


async def unarchived(redis: Redis) -> Unarchived:
    """Return what waits in the stream.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    entries = await redis.xrevrange(AUDIT_STREAM, count=_LOOKED_AT)
    given = (_given(entry.get(FIELD, b"")) for _, entry in entries)
    return Unarchived(tuple([told for told in given if told]), len(entries) < _LOOKED_AT)


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
    known = isinstance(given, dict) and all(isinstance(given.get(name, ""), str) for name in _NAMES)
    return given if known else {}


def _record(given: _Given) -> Recorded | None:
    try:
        return Recorded.from_row(to_row(given))
    except UnreadableDelivery:
        return None
