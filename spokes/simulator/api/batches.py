"""Endpoints for objects in batches of up to 100, with HubSpot's partial failures.

Failed inputs are listed in `errors`. Numbered paths and 2026-03 then return 207; 2026-09 returns the usual status.
"""

from collections import Counter
from http import HTTPStatus
from typing import Final

from spokes.simulator.api.call import NO_CONTENT, Call, EndpointResponse
from spokes.simulator.api.objects import create_record, requested_links, update_record
from spokes.simulator.api.parameters import optional_text_member, property_values, text_member, texts_member
from spokes.simulator.changes import ObjectRef
from spokes.simulator.crm.records import full_record_json, iso, record_json
from spokes.simulator.errors import HubSpotError, JsonObject, invalid_request, object_not_found

MAX_INPUTS: Final = 100


def read_batch(call: Call) -> EndpointResponse:
    """POST batch/read: one OBJECT_NOT_FOUND for all unknown ids and previous ids of merged records."""
    type_, body, crm = call.object_type(), call.json(), call.portal.crm
    results: list[JsonObject] = []
    missing: list[str] = []
    properties, with_history = texts_member(body, "properties"), texts_member(body, "propertiesWithHistory")
    id_property = optional_text_member(body, "idProperty")
    for item in call.inputs(MAX_INPUTS):
        id_ = text_member(item, "id")
        archived = call.query.get("archived") == "true"
        record = crm.find(type_, id_, id_property=id_property, archived=archived, merged=False)
        if record is None:
            missing.append(id_)
        else:
            results.append(record_json(record, properties, with_history))
        call.log_objects(id_)
    errors = [object_not_found(*missing).entry()] if missing else []
    return batch_response(call, HTTPStatus.OK, results, errors)


def create_batch(call: Call) -> EndpointResponse:
    """POST batch/create: create all or none, unless every input has its own objectWriteTraceId."""
    inputs = call.inputs(MAX_INPUTS)
    traces = [item.get("objectWriteTraceId") for item in inputs]
    if None in traces or len(set(traces)) < len(traces):
        _check_creations(call, inputs)
        return batch_response(
            call, HTTPStatus.CREATED, [full_record_json(create_record(call, item)) for item in inputs], []
        )
    results: list[JsonObject] = []
    errors: list[JsonObject] = []
    for item, trace in zip(inputs, traces, strict=True):
        try:
            results.append({**full_record_json(create_record(call, item)), "objectWriteTraceId": trace})
        except HubSpotError as error:
            errors.append(_entry_for_trace(error, str(trace)))
    return batch_response(call, HTTPStatus.CREATED, results, errors)


def update_batch(call: Call) -> EndpointResponse:
    """POST batch/update: silently skip previous ids of merged records; an unknown id is an error."""
    type_, crm = call.object_type(), call.portal.crm
    inputs = call.inputs(MAX_INPUTS)
    _refuse_duplicate_ids(inputs)
    results: list[JsonObject] = []
    errors: list[JsonObject] = []
    for item in inputs:
        id_, written = text_member(item, "id"), property_values(item)
        call.log_objects(id_)
        record = crm.find(type_, id_, id_property=optional_text_member(item, "idProperty"), merged=False)
        if record is None and ObjectRef(type_.type_id, id_) in crm.previous_ids:
            continue
        try:
            if record is None:
                raise object_not_found(id_)
            results.append(update_record(call, record, written))
        except HubSpotError as error:
            errors.append(_entry_for_id(error, id_))
    return batch_response(call, HTTPStatus.OK, results, errors)


def upsert_batch(call: Call) -> EndpointResponse:
    """POST batch/upsert by a unique property; with `email` one error fails the whole batch."""
    type_, crm = call.object_type(), call.portal.crm
    inputs = call.inputs(MAX_INPUTS)
    _refuse_duplicate_ids(inputs)
    results: list[JsonObject] = []
    errors: list[JsonObject] = []
    for item in inputs:
        id_, name = text_member(item, "id"), text_member(item, "idProperty")
        if not id_:
            raise invalid_request("Some required fields were not set: [id]")
        written: dict[str, object] = {name: id_, **property_values(item)}
        record = crm.find(type_, id_, id_property=name)
        try:
            if record is None:
                results.append({**full_record_json(create_record(call, {"properties": written})), "new": True})
            else:
                results.append({**update_record(call, record, written), "new": False})
        except HubSpotError as error:
            if name == "email":
                raise
            errors.append(_entry_for_id(error, id_))
    return batch_response(call, HTTPStatus.OK, results, errors)


def archive_batch(call: Call) -> EndpointResponse:
    """POST batch/archive: 204, also for unknown ids."""
    type_, crm = call.object_type(), call.portal.crm
    for item in call.inputs(MAX_INPUTS):
        id_ = text_member(item, "id")
        call.log_objects(id_)
        record = crm.find(type_, id_, merged=False)
        if record is not None:
            crm.archive(record, call.source)
    return NO_CONTENT


def batch_response(call: Call, status: int, results: list[JsonObject], errors: list[JsonObject]) -> EndpointResponse:
    """Return the response of a batch, with the status that this version of the API uses."""
    now = iso(call.log.at_ms)
    body: JsonObject = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
    if errors:
        body |= {"numErrors": len(errors), "errors": errors}
        status = status if call.partial_status_is_ok else HTTPStatus.MULTI_STATUS
    return EndpointResponse(status, body)


def _check_creations(call: Call, inputs: list[JsonObject]) -> None:
    """Raise the error of the first input that cannot be created, before any is."""
    type_, crm = call.object_type(), call.portal.crm
    seen: set[tuple[str, str]] = set()
    for item in inputs:
        requested_links(call, type_, item.get("associations"))
        values = crm.check_creation(type_, property_values(item))
        for name in crm.schema.unique_names(type_):
            value = (name, values.get(name, "").lower())
            if value in seen:
                raise invalid_request(f"Duplicate {name}s found in batch input.")
            if value[1]:
                seen.add(value)


def _refuse_duplicate_ids(inputs: list[JsonObject]) -> None:
    """Refuse a batch of writes that contains a record twice, as HubSpot does."""
    if any(count > 1 for count in Counter(str(item.get("id")) for item in inputs).values()):
        raise invalid_request("Duplicate IDs found in batch input.")


def _entry_for_id(error: HubSpotError, id_: str) -> JsonObject:
    entry = error.entry()
    return {**entry, "context": {**error.context, "ids": [id_]}}


def _entry_for_trace(error: HubSpotError, trace: str) -> JsonObject:
    entry = error.entry()
    return {**entry, "context": {**error.context, "objectWriteTraceId": [trace]}}
