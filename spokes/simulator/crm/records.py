"""One CRM record and its JSON forms. Values are text; an unset property is absent in `properties` and null in JSON."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from spokes.simulator.changes import ChangeSource, ObjectRef
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.errors import JsonObject


class PastValue(NamedTuple):
    """A past value of a property: when it was written (epoch ms) and by which source."""

    value: str
    at_ms: int
    source: ChangeSource


@dataclass(slots=True, eq=False)
class CrmRecord:
    """One object of the CRM. Times in milliseconds since the epoch."""

    id: str
    type: ObjectType
    created_at_ms: int
    updated_at_ms: int
    archived_at_ms: int | None = None
    properties: dict[str, str] = field(default_factory=dict)
    history: dict[str, list[PastValue]] = field(default_factory=dict)

    @property
    def ref(self) -> ObjectRef:
        """The type id and id of this record."""
        return ObjectRef(self.type.type_id, self.id)

    @property
    def archived(self) -> bool:
        """Whether the record is in the recycle bin."""
        return self.archived_at_ms is not None

    def write(self, changed: dict[str, str], at_ms: int, source: ChangeSource) -> None:
        """Store accepted values and prepend them to the history; "" unsets a property."""
        for name, value in changed.items():
            if value:
                self.properties[name] = value
            else:
                self.properties.pop(name, None)
            self.history.setdefault(name, []).insert(0, PastValue(value, at_ms, source))
        self.updated_at_ms = at_ms
        self.properties[self.type.last_modified] = iso(at_ms)


def as_indexed(record: CrmRecord, at_ms: int) -> CrmRecord | None:
    """Return a record as it was at a time (epoch ms), None if it did not exist yet."""
    if record.updated_at_ms <= at_ms:
        return record
    if record.created_at_ms > at_ms:
        return None
    past = {name: next((v for v in values if v.at_ms <= at_ms), None) for name, values in record.history.items()}
    updated_at_ms = max([record.created_at_ms, *(value.at_ms for value in past.values() if value)])
    unchanged = {name: value for name, value in record.properties.items() if name not in record.history}
    values = {name: value.value for name, value in past.items() if value and value.value}
    properties = unchanged | values | {record.type.last_modified: iso(updated_at_ms)}
    return replace(record, updated_at_ms=updated_at_ms, properties=properties)


@lru_cache(maxsize=8192)  # records of a batch repeat the same timestamps
def iso(at_ms: int) -> str:
    """Format milliseconds since the epoch as HubSpot does: 2026-11-23T20:00:00.000Z."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record_json(record: CrmRecord, requested: Iterable[str] = (), with_history: Iterable[str] = ()) -> JsonObject:
    """Return a record as a read returns it: requested or default properties, and those that HubSpot always adds."""
    requested, with_history = tuple(requested), tuple(with_history)
    names = (*(requested or record.type.default_properties), *with_history, *record.type.always_returned)
    body = _envelope(record, {name: record.properties.get(name) for name in names})
    if with_history:
        body["propertiesWithHistory"] = {name: _history(record, name) for name in with_history}
    return body


def full_record_json(record: CrmRecord) -> JsonObject:
    """Return a record with all its properties, as the response to its creation does."""
    return _envelope(record, dict(record.properties))


def _envelope(record: CrmRecord, properties: dict[str, str | None] | dict[str, str]) -> JsonObject:
    body: JsonObject = {
        "id": record.id,
        "properties": properties,
        "createdAt": iso(record.created_at_ms),
        "updatedAt": iso(record.updated_at_ms),
        "archived": record.archived,
    }
    if record.archived_at_ms is not None:
        body["archivedAt"] = iso(record.archived_at_ms)
    return body


def _history(record: CrmRecord, name: str) -> list[JsonObject]:
    return [
        {
            "value": past.value,
            "timestamp": iso(past.at_ms),
            "sourceType": past.source.change_source,
            "sourceId": past.source.source_id,
        }
        for past in record.history.get(name, ())
    ]
