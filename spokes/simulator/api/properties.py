"""Endpoints that list the portal's own properties of a type, and add one."""

from http import HTTPStatus

from spokes.simulator.api.call import Call, EndpointResponse
from spokes.simulator.api.parameters import objects_member, optional_text_member, text_member
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.crm.property_schema import OwnProperty, PropertySchema
from spokes.simulator.errors import JsonObject, endpoint_not_found


def list_properties(call: Call) -> EndpointResponse:
    """GET properties/{type}: name and type of each property; 404 for a type to which none was added."""
    own = call.portal.crm.schema.own_properties(call.object_type())
    if not own:
        raise endpoint_not_found()
    return EndpointResponse(HTTPStatus.OK, {"results": [_property_json(name, each) for name, each in own.items()]})


def create_property(call: Call) -> EndpointResponse:
    """POST properties/{type}: add a property, as HubSpot's settings do."""
    return EndpointResponse(HTTPStatus.CREATED, add_property(call.portal.crm.schema, call.object_type(), call.json()))


def add_property(schema: PropertySchema, type_: ObjectType, body: JsonObject) -> JsonObject:
    """Add the property that a body describes in HubSpot's fields: name, type, options; return it.

    Raises:
        HubSpotError: 400 or 409.
    """
    options = tuple(text_member(option, "value") for option in objects_member(body, "options"))
    name, definition = text_member(body, "name"), OwnProperty(optional_text_member(body, "type") or "string", options)
    schema.add(type_, name, definition)
    return _property_json(name, definition)


def _property_json(name: str, own: OwnProperty) -> JsonObject:
    body: JsonObject = {"name": name, "type": own.kind}
    return {**body, "options": [{"value": option, "label": option} for option in own.options]} if own.options else body
