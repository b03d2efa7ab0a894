"""Endpoints for associations between records, one pair or a batch. A labelled PUT replaces labels; all others add.

Source: HubSpot's docs "Associate records". Ids are sent as text.
"""

from http import HTTPStatus
from typing import Final

from spokes.simulator.api.batches import batch_response
from spokes.simulator.api.call import NO_CONTENT, Call, EndpointResponse
from spokes.simulator.api.parameters import association_specs, cursor, page_limit, text_member
from spokes.simulator.changes import AssociationSpec, ObjectRef
from spokes.simulator.crm.association_types import AssociationType
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.errors import HubSpotError, JsonObject, invalid_associations, invalid_request, no_associations

_MAX_READ_INPUTS: Final = 1_000
_MAX_WRITE_INPUTS: Final = 2_000
_MAX_PAGE_SIZE: Final = 500


def associate_default(call: Call) -> EndpointResponse:
    """PUT .../associations/default/{to_type}/{to_id}: add the unlabelled association."""
    from_, to = _existing_pair(call)
    unlabelled = call.portal.crm.associations.types.unlabelled(from_.type_id, to.type_id)
    call.portal.crm.associations.add(from_, to, [unlabelled], call.source)
    return batch_response(call, HTTPStatus.OK, [_default_json(from_, to, unlabelled)], [])


def associate_labelled(call: Call) -> EndpointResponse:
    """PUT .../associations/{to_type}/{to_id}: 201; replace the labels of the pair."""
    from_, to = _existing_pair(call)
    association_types = _find_types(call, association_specs(call.json_value()))
    call.portal.crm.associations.replace(from_, to, association_types, call.source)
    return EndpointResponse(HTTPStatus.CREATED, _pair_json(from_, to, association_types))


def associate_by_number(call: Call) -> EndpointResponse:
    """PUT .../associations/{to_type}/{to_id}/{association_type_id}: the older form, with the type id in the path."""
    from_, to = _existing_pair(call)
    association_types = _find_types(call, [_spec_in_path(call)])
    call.portal.crm.associations.add(from_, to, association_types, call.source)
    return EndpointResponse(HTTPStatus.OK, _pair_json(from_, to, association_types))


def list_associations(call: Call) -> EndpointResponse:
    """GET .../associations/{to_type}: associated ids and labels, at most 500 a page; `after` is an offset."""
    crm, from_type, to_type = call.portal.crm, call.object_type(), call.object_type("to_type")
    from_ = _existing_object(call, from_type, call.path_part("id"))
    limit, after = page_limit(call.query.get("limit"), _MAX_PAGE_SIZE, default=_MAX_PAGE_SIZE), call.query.get("after")
    ends, first = crm.associated(from_, to_type), cursor(after)
    body: JsonObject = {"results": [_end_json(*end) for end in ends[first : first + limit]]}
    if first + limit < len(ends):
        body["paging"] = {"next": {"after": str(first + limit)}}
    return EndpointResponse(HTTPStatus.OK, body)


def dissociate(call: Call) -> EndpointResponse:
    """DELETE .../associations/{to_type}/{to_id}: 204; remove all labels, if there are any."""
    from_, to = _path_pair(call)
    call.portal.crm.associations.remove(from_, to, call.source)
    return NO_CONTENT


def dissociate_by_number(call: Call) -> EndpointResponse:
    """DELETE .../associations/{to_type}/{to_id}/{association_type_id}: 204; remove that label."""
    from_, to = _path_pair(call)
    call.portal.crm.associations.remove(from_, to, call.source, only=[_spec_in_path(call)])
    return NO_CONTENT


def list_labels(call: Call) -> EndpointResponse:
    """GET labels: all association types from one object type to another."""
    association_types = call.portal.crm.associations.types.between(call.object_type(), call.object_type("to_type"))
    return EndpointResponse(
        HTTPStatus.OK, {"results": [_label_json(association_type) for association_type in association_types]}
    )


def read_batch(call: Call) -> EndpointResponse:
    """POST batch/read: the associated ids of up to 1000 objects; an object without any is an error."""
    from_type, to_type = call.object_type(), call.object_type("to_type")
    results: list[JsonObject] = []
    errors: list[JsonObject] = []
    for item in call.inputs(_MAX_READ_INPUTS):
        try:
            from_ = _existing_object(call, from_type, text_member(item, "id"))
            ends = call.portal.crm.associated(from_, to_type)
            if not ends:
                raise no_associations(from_type.singular, from_.object_id, to_type.singular)
            results.append({"from": {"id": from_.object_id}, "to": [_end_json(*end) for end in ends]})
        except HubSpotError as error:
            errors.append(error.entry())
    return batch_response(call, HTTPStatus.OK, results, errors)


def create_batch(call: Call) -> EndpointResponse:
    """POST batch/create: add labels to up to 2000 pairs."""
    results: list[JsonObject] = []
    errors: list[JsonObject] = []
    associations = call.portal.crm.associations
    for item in call.inputs(_MAX_WRITE_INPUTS):
        association_types = _find_types(call, association_specs(item.get("types")))
        try:
            from_, to = _input_pair(call, item)
            associations.add(from_, to, association_types, call.source)
            results.append(_pair_json(from_, to, association_types))
        except HubSpotError as error:
            errors.append(error.entry())
    return batch_response(call, HTTPStatus.CREATED, results, errors)


def create_default_batch(call: Call) -> EndpointResponse:
    """POST batch/associate/default: add the unlabelled association to up to 2000 pairs."""
    results: list[JsonObject] = []
    errors: list[JsonObject] = []
    associations = call.portal.crm.associations
    unlabelled = associations.types.unlabelled(call.object_type().type_id, call.object_type("to_type").type_id)
    for item in call.inputs(_MAX_WRITE_INPUTS):
        try:
            from_, to = _input_pair(call, item)
            associations.add(from_, to, [unlabelled], call.source)
            results.append(_default_json(from_, to, unlabelled))
        except HubSpotError as error:
            errors.append(error.entry())
    return batch_response(call, HTTPStatus.OK, results, errors)


def archive_batch(call: Call) -> EndpointResponse:
    """POST batch/archive: 204; each input has one `from` object and a list of `to` objects."""
    associations = call.portal.crm.associations
    from_type, to_type = call.object_type(), call.object_type("to_type")
    for item in call.inputs(_MAX_WRITE_INPUTS):
        from_ = ObjectRef(from_type.type_id, text_member(_object_member(item, "from"), "id"))
        targets = item.get("to")
        for target in targets if isinstance(targets, list) else [_object_member(item, "to")]:
            associations.remove(from_, ObjectRef(to_type.type_id, text_member(target, "id")), call.source)
    return NO_CONTENT


def archive_labels_batch(call: Call) -> EndpointResponse:
    """POST batch/labels/archive: 204; remove only the named labels."""
    associations = call.portal.crm.associations
    for item in call.inputs(_MAX_WRITE_INPUTS):
        from_, to = _input_pair(call, item)
        associations.remove(from_, to, call.source, only=association_specs(item.get("types")))
    return NO_CONTENT


def _path_pair(call: Call) -> tuple[ObjectRef, ObjectRef]:
    from_ = _existing_object(call, call.object_type(), call.path_part("id"))
    return from_, _existing_object(call, call.object_type("to_type"), call.path_part("to_id"))


def _existing_pair(call: Call) -> tuple[ObjectRef, ObjectRef]:
    """Return both objects in the path of a call that associates them.

    Raises:
        HubSpotError: 400, one of them does not exist.
    """
    refs: list[ObjectRef] = []
    for type_, object_id in (
        (call.object_type(), call.path_part("id")),
        (call.object_type("to_type"), call.path_part("to_id")),
    ):
        call.log_objects(object_id)
        record = call.portal.crm.find(type_, object_id)
        if record is None:
            raise invalid_associations(type_.singular.upper(), [object_id])
        refs.append(ObjectRef(type_.type_id, record.id))
    return refs[0], refs[1]


def _input_pair(call: Call, item: JsonObject) -> tuple[ObjectRef, ObjectRef]:
    from_ = _existing_object(call, call.object_type(), text_member(_object_member(item, "from"), "id"))
    return from_, _existing_object(call, call.object_type("to_type"), text_member(_object_member(item, "to"), "id"))


def _existing_object(call: Call, type_: ObjectType, id_: str) -> ObjectRef:
    call.log_objects(id_)
    return ObjectRef(type_.type_id, call.portal.crm.get(type_, id_).id)


def _find_types(call: Call, specs: list[AssociationSpec]) -> list[AssociationType]:
    types, from_type, to_type = call.portal.crm.associations.types, call.object_type(), call.object_type("to_type")
    return [types.find(spec, from_type, to_type) for spec in specs]


def _spec_in_path(call: Call) -> AssociationSpec:
    return association_specs([{"associationTypeId": call.path_part("association_type_id")}])[0]


def _object_member(item: JsonObject, name: str) -> JsonObject:
    value = item.get(name)
    if not isinstance(value, dict):
        raise invalid_request(f"Some required fields were not set: [{name}]")
    return value


def _label_json(association_type: AssociationType) -> JsonObject:
    spec = association_type.spec
    return {"category": spec.category, "typeId": spec.type_id, "label": association_type.label}


def _end_json(to_id: str, labels: list[AssociationType]) -> JsonObject:
    return {"toObjectId": to_id, "associationTypes": [_label_json(label) for label in labels]}


def _default_json(from_: ObjectRef, to: ObjectRef, unlabelled: AssociationType) -> JsonObject:
    spec = {"associationCategory": unlabelled.spec.category, "associationTypeId": unlabelled.spec.type_id}
    return {"from": {"id": from_.object_id}, "to": {"id": to.object_id}, "associationSpec": spec}


def _pair_json(from_: ObjectRef, to: ObjectRef, association_types: list[AssociationType]) -> JsonObject:
    return {
        "fromObjectTypeId": from_.type_id,
        "fromObjectId": from_.object_id,
        "toObjectTypeId": to.type_id,
        "toObjectId": to.object_id,
        "labels": [label for label in (association_type.label for association_type in association_types) if label],
    }
