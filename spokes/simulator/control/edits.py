"""Edits by users in HubSpot's own pages, as data.

{"edit": "create", "type": "contacts", "properties": {...}, "id": "101"}      id is optional
{"edit": "update", "type": "contacts", "id": "101", "properties": {...}}
{"edit": "delete" | "restore" | "erase", "type": "contacts", "id": "101"}
{"edit": "merge", "type": "contacts", "primary_id": "101", "other_id": "102"}
{"edit": "associate" | "dissociate", "type": "contacts", "id": "101", "to_type": "companies", "to_id": "7",
 "association_type_id": 1}                                                      unlabelled by default
{"edit": "start_thread"}   {"edit": "message" | "delete_thread" | "erase_thread", "thread_id": "9"}
{"edit": "set_thread", "thread_id": "9", "name": "status", "value": "CLOSED"}
"""

from collections.abc import Callable, Mapping
from typing import Final

from spokes.simulator.api.parameters import property_values, text_member
from spokes.simulator.changes import USER, AssociationSpec, ChangeSource
from spokes.simulator.crm.association_types import HUBSPOT_DEFINED
from spokes.simulator.crm.records import CrmRecord, full_record_json
from spokes.simulator.errors import JsonObject, invalid_request
from spokes.simulator.portal import Portal


def apply_edit(portal: Portal, edit: JsonObject) -> JsonObject:
    """Apply one edit and return its result; the optional `source` ("IMPORT" etc.) replaces the user as its source.

    Raises:
        HubSpotError: HubSpot would refuse the edit.
    """
    apply = _EDITS.get(str(edit.get("edit")))
    if apply is None:
        raise invalid_request(f"edit must be one of: {', '.join(_EDITS)}")
    source = ChangeSource(str(edit["source"]), str(edit.get("source_id", ""))) if "source" in edit else USER
    return apply(portal, edit, source)


def _create(portal: Portal, edit: JsonObject, source: ChangeSource) -> JsonObject:
    type_ = portal.crm.types.resolve(text_member(edit, "type"))
    id_ = text_member(edit, "id") if "id" in edit else None
    return full_record_json(portal.crm.create(type_, property_values(edit), source, id_=id_))


def _update(portal: Portal, edit: JsonObject, source: ChangeSource) -> JsonObject:
    return full_record_json(portal.crm.update(_record(portal, edit), property_values(edit), source))


def _delete(portal: Portal, edit: JsonObject, source: ChangeSource) -> JsonObject:
    record = _record(portal, edit)
    portal.crm.archive(record, source)
    return full_record_json(record)


def _restore(portal: Portal, edit: JsonObject, source: ChangeSource) -> JsonObject:
    record = portal.crm.get(portal.crm.types.resolve(text_member(edit, "type")), text_member(edit, "id"), archived=True)
    portal.crm.restore(record, source)
    return full_record_json(record)


def _erase(portal: Portal, edit: JsonObject, source: ChangeSource) -> JsonObject:
    record = _record(portal, edit)
    portal.crm.erase(record, source)
    return {"id": record.id}


def _merge(portal: Portal, edit: JsonObject, source: ChangeSource) -> JsonObject:
    primary, other = _record(portal, edit, "primary_id"), _record(portal, edit, "other_id")
    return full_record_json(portal.crm.merge(primary, other, source))


def _associate(portal: Portal, edit: JsonObject, source: ChangeSource) -> JsonObject:
    from_, to = _record(portal, edit), _record(portal, edit, "to_id", "to_type")
    types = portal.crm.associations.types
    association_type = types.unlabelled(from_.type.type_id, to.type.type_id)
    if "association_type_id" in edit:
        spec = AssociationSpec(str(edit.get("category", HUBSPOT_DEFINED)), int(edit["association_type_id"]))
        association_type = types.find(spec, from_.type, to.type)
    portal.crm.associations.add(from_.ref, to.ref, [association_type], source)
    return {"from": from_.id, "to": to.id, "association_type_id": association_type.spec.type_id}


def _dissociate(portal: Portal, edit: JsonObject, source: ChangeSource) -> JsonObject:
    from_, to = _record(portal, edit), _record(portal, edit, "to_id", "to_type")
    portal.crm.associations.remove(from_.ref, to.ref, source)
    return {"from": from_.id, "to": to.id}


def _start_thread(portal: Portal, _edit: JsonObject, _source: ChangeSource) -> JsonObject:
    return {"thread_id": portal.conversations.start()}


def _message(portal: Portal, edit: JsonObject, _source: ChangeSource) -> JsonObject:
    message_type = str(edit.get("message_type", "MESSAGE"))
    return {"message_id": portal.conversations.add_message(text_member(edit, "thread_id"), message_type)}


def _set_thread(portal: Portal, edit: JsonObject, _source: ChangeSource) -> JsonObject:
    thread_id, name, value = (text_member(edit, member) for member in ("thread_id", "name", "value"))
    portal.conversations.set_property(thread_id, name, value)
    return {"thread_id": thread_id}


def _delete_thread(portal: Portal, edit: JsonObject, _source: ChangeSource) -> JsonObject:
    portal.conversations.delete(text_member(edit, "thread_id"))
    return {}


def _erase_thread(portal: Portal, edit: JsonObject, _source: ChangeSource) -> JsonObject:
    portal.conversations.erase(text_member(edit, "thread_id"))
    return {}


def _record(portal: Portal, edit: JsonObject, id_member: str = "id", type_member: str = "type") -> CrmRecord:
    type_ = portal.crm.types.resolve(text_member(edit, type_member))
    return portal.crm.get(type_, text_member(edit, id_member))


_EDITS: Final[Mapping[str, Callable[[Portal, JsonObject, ChangeSource], JsonObject]]] = {
    "create": _create,
    "update": _update,
    "delete": _delete,
    "restore": _restore,
    "erase": _erase,
    "merge": _merge,
    "associate": _associate,
    "dissociate": _dissociate,
    "start_thread": _start_thread,
    "message": _message,
    "set_thread": _set_thread,
    "delete_thread": _delete_thread,
    "erase_thread": _erase_thread,
}
