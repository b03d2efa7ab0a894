"""Which of the events that HubSpot's records show never arrived, by any intake. Nothing is stored.

An event arrived if its dedupe mark or a record of the audit has its key. The key is also tried with what may differ
between a record's history and HubSpot's own event: the time, by seconds; the value, which HubSpot withholds if it is
sensitive; and the id, if the record was merged since. A change that our own write explains need not arrive.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import orjson
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.core.events import Event
from spokes.intake.dedupe.known_events import known_keys
from spokes.intake.event_keys import EventKeys

_BATCH: Final = 200  # keys or ids of one query
_TIME_DIFFERENCE_MS: Final = 5_000  # between a record's history and HubSpot's event
_WRITTEN_BEFORE_MS: Final = 60_000  # of our clock against HubSpot's
_RECORDED_AFTER_MS: Final = 900_000  # a write is recorded when its handler has ended
_OF_PROGRAMS: Final = frozenset({None, "", "API", "INTEGRATION"})  # sources of changes that may be our own writes
_METHODS: Final[Mapping[str, frozenset[str]]] = {  # that cause an event of a kind
    "creation": frozenset({"create", "upsert"}),
    "deletion": frozenset({"archive"}),
    "merge": frozenset({"merge"}),
}
_R: Final = RECORDS.c
T = TypeVar("T")


class ShownEvent(NamedTuple):
    """An event that a record shows, and the ids of the records that were merged into it."""

    event: Event
    merged_ids: tuple[str, ...] = ()

    @property
    def object_ids(self) -> tuple[str, ...]:
        """The ids under which the event may have arrived."""
        return self.event.object_id, *self.merged_ids


class MissingEvents(NamedTuple):
    """The events that never arrived: those that were expected to, and those that our own writes explain."""

    expected: Sequence[Event]
    own: Sequence[Event]


@dataclass(frozen=True, slots=True)
class ReceivedEvents:
    """Looks up events of one deployment; the caller closes `redis` and `engine`."""

    redis: Redis
    engine: AsyncEngine
    keys: EventKeys

    async def missing(self, portal_id: int, shown: Sequence[ShownEvent]) -> MissingEvents:
        """Return those of the events that never arrived.

        Raises:
            RedisError, OSError: Redis does not answer.
            AuditUnavailable: the audit store does not answer.
        """
        rest = list(shown)
        for find in (self._marked, self._archived, self._archived_nearby):
            known = await find(portal_id, rest) if rest else set()
            rest = [each for number, each in enumerate(rest) if number not in known]
        own = await self._written(portal_id, rest) if rest else set()
        return MissingEvents(
            [each.event for number, each in enumerate(rest) if number not in own],
            [rest[number].event for number in sorted(own)],
        )

    async def _marked(self, portal_id: int, shown: Sequence[ShownEvent]) -> set[int]:
        """Return the positions of events that have a dedupe mark."""
        positions = self._positions(shown)
        found: set[int] = set()
        for batch in _batches(list(positions)):
            times = [(key, shown[positions[key][0]].event.occurred_at) for key in batch]
            known = await known_keys(self.redis, portal_id, times)
            found |= {number for key in known for number in positions[key]}
        return found

    async def _archived(self, portal_id: int, shown: Sequence[ShownEvent]) -> set[int]:
        """Return the positions of events that a record of the audit names."""
        positions = self._positions(shown)
        found: set[int] = set()
        for batch in _batches(list(positions)):
            query = select(_R.event_key).where(_R.event_key.in_(batch), _R.portal_id == portal_id).distinct()
            keys = [str(row["event_key"]) for row in await fetch(self.engine, query)]
            found |= {number for key in keys for number in positions[key]}
        return found

    async def _archived_nearby(self, portal_id: int, shown: Sequence[ShownEvent]) -> set[int]:
        """Return the positions of events that a record of the audit names with a time that differs by seconds."""
        found: set[int] = set()
        for numbers in _batches(range(len(shown))):
            events = [shown[number] for number in numbers]
            earliest, latest = _time_span(events)
            query = select(_R.object_id, _R.occurred_at, _R.event_key).where(
                _R.portal_id == portal_id, _R.action == Action.EVENT, _R.object_id.in_(_object_ids(events)),
                _R.occurred_at >= earliest - _TIME_DIFFERENCE_MS, _R.occurred_at <= latest + _TIME_DIFFERENCE_MS,
            )  # fmt: skip
            recorded: dict[str, list[tuple[int, str]]] = {}
            for row in await fetch(self.engine, query):
                at, key = int(str(row["occurred_at"])), str(row["event_key"])
                recorded.setdefault(str(row["object_id"]), []).append((at, key))
            found |= {number for number in numbers if self._is_recorded(shown[number], recorded)}
        return found

    def _is_recorded(self, shown: ShownEvent, recorded: dict[str, list[tuple[int, str]]]) -> bool:
        at = shown.event.occurred_at
        nearby = [
            record
            for object_id in shown.object_ids
            for record in recorded.get(object_id, ())
            if abs(record[0] - at) <= _TIME_DIFFERENCE_MS
        ]
        return any(key in set(self._keys_of(shown, occurred_at)) for occurred_at, key in nearby)

    async def _written(self, portal_id: int, shown: Sequence[ShownEvent]) -> set[int]:
        """Return the positions of events that a write of ours explains."""
        found: set[int] = set()
        for numbers in _batches(range(len(shown))):
            events = [shown[number] for number in numbers]
            earliest, latest = _time_span(events)
            query = select(_R.object_id, _R.at, _R.detail).where(
                _R.portal_id == portal_id, _R.action == Action.CRM_WRITE, _R.object_id.in_(_object_ids(events)),
                _R.at >= earliest - _WRITTEN_BEFORE_MS, _R.at <= latest + _RECORDED_AFTER_MS,
            )  # fmt: skip
            writes: dict[str, list[_Write]] = {}
            for row in await fetch(self.engine, query):
                writes.setdefault(str(row["object_id"]), []).append(_write(row))
            found |= {
                number
                for number in numbers
                if any(_explains(write, shown[number].event) for write in writes.get(shown[number].event.object_id, ()))
            }
        return found

    def _positions(self, shown: Sequence[ShownEvent]) -> dict[str, list[int]]:
        """Return the positions of the events that each key names."""
        positions: dict[str, list[int]] = {}
        for number, each in enumerate(shown):
            for key in self._keys_of(each):
                positions.setdefault(key, []).append(number)
        return positions

    def _keys_of(self, shown: ShownEvent, occurred_at: int | None = None) -> Iterator[str]:
        """Yield the keys that HubSpot's event may have; at another time if one is given."""
        raw = shown.event.raw | {"occurredAt": shown.event.occurred_at if occurred_at is None else occurred_at}
        for object_id in shown.object_ids:
            event = Event(raw | {"objectId": int(object_id)})
            yield self.keys(event)
            yield from self.keys.former(event)
            if event.property_value:
                yield self.keys(Event(event.raw | {"propertyValue": ""}))  # as HubSpot withholds it


class _Write(NamedTuple):
    at: int
    method: str
    properties: frozenset[str]


def _write(row: dict[str, Any]) -> _Write:
    detail = orjson.loads(str(row["detail"] or "{}"))
    method = str(detail.get("method", "")).rpartition(".")[2]
    return _Write(int(str(row["at"])), method, frozenset(map(str, detail.get("properties") or ())))


def _explains(write: _Write, event: Event) -> bool:
    """Return whether a write made this change; HubSpot may have made a write that failed for us."""
    if not event.occurred_at - _WRITTEN_BEFORE_MS <= write.at <= event.occurred_at + _RECORDED_AFTER_MS:
        return False
    if event.kind == "propertyChange":
        return event.change_source in _OF_PROGRAMS and event.property_name in write.properties
    return write.method in _METHODS.get(event.kind, ())


def _time_span(shown: Iterable[ShownEvent]) -> tuple[int, int]:
    times = [each.event.occurred_at for each in shown]
    return min(times), max(times)


def _object_ids(shown: Iterable[ShownEvent]) -> list[str]:
    return sorted({object_id for each in shown for object_id in each.object_ids})


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
