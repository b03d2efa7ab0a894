"""Entries of HubSpot's journal as elements of its push deliveries. Pure.

A change that HubSpot pushes and journals identically (portal, object, property, `occurredAt`, value) becomes the same
event here, with the same event key. An entry that changes several properties becomes one element for each of them. An
entry of an unknown type or action is not interpreted.

Source: HubSpot's docs, "Webhooks journal". The entries of lists, snapshots and privacy deletions are not documented.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from spokes.core.events import RawEvent
from spokes.core.json_reading.json_fields import read_bigint, read_id, read_scalar_text, read_text
from spokes.portals.lifecycles import Lifecycle

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_KINDS: Final[Mapping[str, str]] = {
    "CREATE": "creation",
    "DELETE": "deletion",
    "RESTORE": "restore",
    "MERGE": "merge",
    "GDPR_DELETE": "privacyDeletion",
}
_OBJECT_FIELDS: Final = frozenset(
    ("type", "portalId", "occurredAt", "action", "objectTypeId", "objectId", "propertyChanges", "mergedObjectIds")
)
_LIFECYCLE_ACTIONS: Final = frozenset(("APP_INSTALL", "APP_UNINSTALL"))


def elements_of(entry: RawEvent) -> list[RawEvent] | None:
    """Return an entry as elements, which are not checked; None if its type or action is unknown."""
    type_ = str(entry.get("type")).replace("_", "").lower()
    action = str(entry.get("action")).upper()
    is_of_object = type_ == "crmobject" or (action == "GDPR_DELETE" and "objectId" in entry)
    if is_of_object and (action == "UPDATE" or action in _KINDS):
        return _object_elements(entry, action)
    if type_ == "association" and action in {"ASSOCIATION_ADDED", "ASSOCIATION_REMOVED"}:
        return [_association_element(entry, is_removed=action == "ASSOCIATION_REMOVED")]
    return None


def lifecycle_of(entry: RawEvent) -> Lifecycle | None:
    """Return the install or uninstall that an entry reports, None for another entry or an unreadable one."""
    action = str(entry.get("action")).upper()
    if str(entry.get("type")).replace("_", "").lower() != "applifecycleevent" or action not in _LIFECYCLE_ACTIONS:
        return None
    portal_id, occurred_at = read_id(entry.get("portalId")), read_time(entry.get("occurredAt"))
    if portal_id is None or occurred_at is None:
        return None
    return Lifecycle(portal_id, action == "APP_INSTALL", occurred_at)


def read_time(value: object) -> int | None:
    """Return a time in epoch ms, sent as ISO text or as epoch ms; None if it is neither.

    A time without an offset is UTC. Digits below the millisecond are dropped: push deliveries do not have them.
    """
    text = read_text(value)
    return read_bigint(value) if text is None else _read_time_text(text)


@lru_cache(maxsize=1024)  # the changes of an import share their times
def _read_time_text(text: str) -> int | None:
    if text.isdecimal():
        return read_bigint(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND


def _object_elements(entry: RawEvent, action: str) -> list[RawEvent]:
    """Return the elements of a change of one object: those of its properties, and that of the object itself."""
    common: RawEvent = {
        "portalId": entry.get("portalId"),
        "occurredAt": read_time(entry.get("occurredAt")),
        "subscriptionType": "object.propertyChange",
        "objectId": read_id(entry.get("objectId")),
        "objectTypeId": entry.get("objectTypeId"),
    }
    if not entry.keys() <= _OBJECT_FIELDS:
        common |= {name: value for name, value in entry.items() if name not in _OBJECT_FIELDS and name not in common}
    changes = entry.get("propertyChanges")
    elements: list[RawEvent]
    if isinstance(changes, dict):
        elements = [
            {**common, "propertyName": name, "propertyValue": _pushed_value(value)} for name, value in changes.items()
        ]
    else:
        elements = [] if changes is None else [common]  # an unreadable one, without a property
    if action == "UPDATE":
        return elements
    own = common | {"subscriptionType": f"object.{_KINDS[action]}"}
    if action == "MERGE":
        own |= {"mergedObjectIds": entry.get("mergedObjectIds"), "newObjectId": common["objectId"]}
    return [own, *elements]


def _pushed_value(value: object) -> object:
    """Return a value as push deliveries have it: text, which is empty for a cleared property."""
    if value is None:
        return ""
    text = read_scalar_text(value)
    return value if text is None else text


def _association_element(entry: RawEvent, *, is_removed: bool) -> RawEvent:
    names = ("fromObjectTypeId", "toObjectTypeId", "associationCategory")
    return {
        "portalId": entry.get("portalId"),
        "occurredAt": read_time(entry.get("occurredAt")),
        "subscriptionType": "object.associationChange",
        **{name: entry.get(name) for name in names},
        **{name: read_id(entry.get(name)) for name in ("fromObjectId", "toObjectId", "associationTypeId")},
        "associationRemoved": is_removed,
        "isPrimaryAssociation": entry.get("isPrimary") is True,
    }
