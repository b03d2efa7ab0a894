"""Endpoints for single objects: read, list, create, update, archive, merge, erase.

Source of paths and statuses: HubSpot's docs "Using object APIs".
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Final

from spokes.simulator.api.call import NO_CONTENT, Call, EndpointResponse
from spokes.simulator.api.parameters import (
    association_specs,
    cursor,
    optional_text_member,
    page_limit,
    property_values,
    text_member,
)
from spokes.simulator.changes import AssociationSpec, ObjectRef
from spokes.simulator.crm.association_types import AssociationType
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.crm.records import CrmRecord, full_record_json, record_json
from spokes.simulator.errors import (
    JsonObject,
    invalid_associations,
    invalid_request,
    nothing_to_update,
    object_not_found,
)

_MAX_PAGE_SIZE: Final = 100
_MAX_PAGE_SIZE_WITH_HISTORY: Final = 50

Links = list[tuple[ObjectRef, list[AssociationType]]]


def read_object(call: Call) -> EndpointResponse:
    """GET {type}/{id}, by id or by a unique property; previous ids of merged records resolve to the survivor."""
    type_, id_ = call.object_type(), call.path_part("id")
    call.log_objects(id_)
    archived = call.query.get("archived") == "true"
    record = call.portal.crm.get(type_, id_, id_property=call.query.get("idProperty"), archived=archived)
    return EndpointResponse(HTTPStatus.OK, _record_with_associations(call, record))


def list_objects(call: Call) -> EndpointResponse:
    """GET {type}: pages of at most 100 in the order of ids; `after` is the last id seen."""
    with_history = bool(call.list_parameter("propertiesWithHistory"))
    limit = page_limit(call.query.get("limit"), _MAX_PAGE_SIZE_WITH_HISTORY if with_history else _MAX_PAGE_SIZE)
    after = cursor(call.query.get("after"))
    archived = call.query.get("archived") == "true"
    records = sorted(call.portal.crm.records(call.object_type(), archived=archived), key=lambda r: int(r.id))
    page = list(islice((r for r in records if int(r.id) > after), limit + 1))
    body: JsonObject = {"results": [_record_with_associations(call, record) for record in page[:limit]]}
    if len(page) > limit:
        body["paging"] = {"next": {"after": page[limit - 1].id}}
    return EndpointResponse(HTTPStatus.OK, body)


def create_object(call: Call) -> EndpointResponse:
    """POST {type}: 201, or 409 if another contact has the e-mail address."""
    return EndpointResponse(HTTPStatus.CREATED, full_record_json(create_record(call, call.json())))


def update_object(call: Call) -> EndpointResponse:
    """PATCH {type}/{id}: write the given properties; "" clears. Previous ids of merged records resolve."""
    type_, written = call.object_type(), property_values(call.json())
    if not written:
        raise nothing_to_update()
    record = call.portal.crm.get(type_, call.path_part("id"), id_property=call.query.get("idProperty"))
    return EndpointResponse(HTTPStatus.OK, update_record(call, record, written))


def archive_object(call: Call) -> EndpointResponse:
    """DELETE {type}/{id}: 204; move the record to the recycle bin. 204 too if it is already there."""
    type_, id_ = call.object_type(), call.path_part("id")
    call.log_objects(id_)
    crm = call.portal.crm
    record = crm.find(type_, id_)
    if record is not None:
        crm.archive(record, call.source)
    elif crm.find(type_, id_, archived=True) is None:
        raise object_not_found(id_)
    return NO_CONTENT


def merge_objects(call: Call) -> EndpointResponse:
    """POST {type}/merge: merge two records and return the survivor."""
    type_, body, crm = call.object_type(), call.json(), call.portal.crm
    primary_id, other_id = text_member(body, "primaryObjectId"), text_member(body, "objectIdToMerge")
    call.log_objects(primary_id, other_id)
    primary, other = crm.get(type_, primary_id), crm.get(type_, other_id)
    return EndpointResponse(HTTPStatus.OK, full_record_json(crm.merge(primary, other, call.source)))


def erase_object(call: Call) -> EndpointResponse:
    """POST {type}/gdpr-delete: 204; an unknown e-mail address is added to the block list."""
    type_, body, crm = call.object_type(), call.json(), call.portal.crm
    id_, id_property = text_member(body, "objectId"), optional_text_member(body, "idProperty")
    call.log_objects(id_)
    record = crm.find(type_, id_, id_property=id_property)
    if record is None:
        record = crm.find(type_, id_, id_property=id_property, archived=True)
    if record is not None:
        crm.erase(record, call.source)
    elif id_property == "email":
        crm.blocked_emails.add(id_.lower())
    else:
        raise object_not_found(id_)
    return NO_CONTENT


def create_record(call: Call, item: Mapping[str, object]) -> CrmRecord:
    """Create one record with its associations, or nothing.

    Raises:
        HubSpotError: 400 or 409.
    """
    type_, crm = call.object_type(), call.portal.crm
    written = property_values(item)
    links = requested_links(call, type_, item.get("associations"))
    record = crm.create(type_, written, call.source)
    call.log_objects(record.id)
    call.log_write(record, written)
    for to, association_types in links:
        crm.associations.add(record.ref, to, association_types, call.source)
    return record


def update_record(call: Call, record: CrmRecord, written: Mapping[str, object]) -> JsonObject:
    """Update one record and return it with the written properties.

    Raises:
        HubSpotError: 400 or 409.
    """
    call.log_objects(record.id)
    call.portal.crm.update(record, written, call.source)
    call.log_write(record, written)
    return record_json(record, written)


def requested_links(call: Call, from_type: ObjectType, associations: object) -> Links:
    """Return the `associations` of a creation; the objects exist and the association types fit the direction.

    Raises:
        HubSpotError: 400.
    """
    links: Links = []
    for item in associations if isinstance(associations, list) else []:
        to = item.get("to") if isinstance(item, dict) else None
        if not isinstance(to, dict):
            raise invalid_request("Some required fields were not set: [to]")
        links.append(_resolve_link(call, from_type, text_member(to, "id"), association_specs(item.get("types"))))
    return links


def _resolve_link(
    call: Call, from_type: ObjectType, to_id: str, specs: Iterable[AssociationSpec]
) -> tuple[ObjectRef, list[AssociationType]]:
    """Return one association. The body has only the object's id; its type follows from the association type."""
    crm = call.portal.crm
    association_types = [crm.associations.types.find_from(spec, from_type) for spec in specs]
    to_types = {association_type.to_type_id for association_type in association_types}
    if len(to_types) != 1:
        raise invalid_request("The association types of one association lead to different object types.")
    to_type = crm.types.resolve(to_types.pop())
    record = crm.find(to_type, to_id)
    if record is None:
        raise invalid_associations(to_type.singular.upper(), [to_id])
    return record.ref, association_types


def _record_with_associations(call: Call, record: CrmRecord) -> JsonObject:
    body = record_json(record, call.list_parameter("properties"), call.list_parameter("propertiesWithHistory"))
    associations: JsonObject = {}
    for name in call.list_parameter("associations"):
        to_type = call.portal.crm.types.resolve(name)
        ends = call.portal.crm.associated(record.ref, to_type)
        label = f"{record.type.singular}_to_{to_type.singular}"
        if ends:
            associations[to_type.plural] = {"results": [{"id": to_id, "type": label} for to_id, _ in ends]}
    if associations:
        body["associations"] = associations
    return body
