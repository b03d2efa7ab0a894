"""The journal's entries of a change. An entry of several properties equals one push event for each. Pure.

Source: HubSpot's docs, "Webhooks journal". The journal has no conversations. The entry of a privacy deletion is not
documented; the simulator's has an action that readers may not know.
"""

from collections.abc import Mapping
from typing import Final

from spokes.simulator.changes import CONVERSATION, AssociationEnd, Change, ChangeKind
from spokes.simulator.crm.records import iso
from spokes.simulator.errors import JsonObject

_ACTIONS: Final[Mapping[ChangeKind, str]] = {
    ChangeKind.CREATION: "CREATE",
    ChangeKind.PROPERTY_CHANGE: "UPDATE",
    ChangeKind.DELETION: "DELETE",
    ChangeKind.MERGE: "MERGE",
    ChangeKind.RESTORE: "RESTORE",
    ChangeKind.PRIVACY_DELETION: "GDPR_DELETE",
}
LIFECYCLE_TYPES: Final[Mapping[str, str]] = {"APP_INSTALL": "4-1909196", "APP_UNINSTALL": "4-1916193"}


def entry_of(portal_id: int, change: Change, value: str | None) -> JsonObject | None:
    """Return the entry of a change, None if the journal has none; `value` is the property's, as HubSpot shows it."""
    if change.association is not None:
        return _association(portal_id, change, change.association)
    action = _ACTIONS.get(change.kind)
    if action is None or change.ref.type_id == CONVERSATION:
        return None
    entry: JsonObject = {
        "type": "crmObject",
        "portalId": portal_id,
        "occurredAt": iso(change.at_ms),
        "action": action,
        "objectTypeId": change.ref.type_id,
        "objectId": int(change.ref.object_id),
        "propertyChanges": {} if change.property_name is None else {change.property_name: value},
    }
    if change.merge is not None:
        entry["mergedObjectIds"] = [int(change.merge.primary_id), *map(int, change.merge.merged_ids)]
    return entry


def joined(previous: JsonObject, entry: JsonObject) -> bool:
    """Add the property of `entry` to `previous` if both are of one update; return whether they are."""
    names = ("type", "portalId", "occurredAt", "action", "objectTypeId", "objectId")
    if entry.get("action") != "UPDATE" or any(previous.get(name) != entry.get(name) for name in names):
        return False
    if "propertyChanges" not in entry or not previous["propertyChanges"].keys().isdisjoint(entry["propertyChanges"]):
        return False
    previous["propertyChanges"] |= entry["propertyChanges"]
    return True


def lifecycle_entry(portal_id: int, app_id: int, action: str, at_ms: int) -> JsonObject:
    """Return the entry of an install or uninstall of the app."""
    properties = {"hs_app_id": str(app_id), "hs_app_install_level": "PORTAL", "hs_user_id": "60718293"}
    return {
        "type": "app_lifecycle_event",
        "action": action,
        "portalId": portal_id,
        "occurredAt": iso(at_ms),
        "eventTypeId": LIFECYCLE_TYPES[action],
        "properties": properties,
    }


def _association(portal_id: int, change: Change, end: AssociationEnd) -> JsonObject:
    return {
        "type": "association",
        "portalId": portal_id,
        "occurredAt": iso(change.at_ms),
        "action": "ASSOCIATION_REMOVED" if end.removed else "ASSOCIATION_ADDED",
        "fromObjectTypeId": change.ref.type_id,
        "fromObjectId": int(change.ref.object_id),
        "toObjectTypeId": end.to.type_id,
        "toObjectId": int(end.to.object_id),
        "associationTypeId": end.spec.type_id,
        "associationCategory": end.spec.category,
        "isPrimary": end.primary,
    }
