"""Endpoints that list the properties of a type, and add one."""

from http import HTTPStatus

from spokes.simulator.api.call import Call, EndpointResponse
from spokes.simulator.api.parameters import objects_member, optional_text_member, text_member
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.crm.property_schema import PropertySchema
from spokes.simulator.errors import JsonObject, endpoint_not_found
from spokes.simulator.property_definition import OWNER, PropertyDefinition


def list_properties(call: Call) -> EndpointResponse:
    """GET properties/{type}: the properties that are known by name; 404 for a type of which none is known."""
    definitions = call.portal.crm.schema.properties(call.object_type())
    if not definitions:
        raise endpoint_not_found()
    return EndpointResponse(HTTPStatus.OK, {"results": [_property_json(*each) for each in definitions.items()]})


def create_property(call: Call) -> EndpointResponse:
    """POST properties/{type}: add a property, as HubSpot's settings do."""
    return EndpointResponse(HTTPStatus.CREATED, add_property(call.portal.crm.schema, call.object_type(), call.json()))


def add_property(schema: PropertySchema, type_: ObjectType, body: JsonObject) -> JsonObject:
    """Add the property that a body describes in HubSpot's fields; return it.

    Fields are name, type, fieldType, options, hasUniqueValue and modificationMetadata.readOnlyValue.

    Raises:
        HubSpotError: 400 or 409.
    """
    metadata = body.get("modificationMetadata")
    definition = PropertyDefinition(
        optional_text_member(body, "type") or "string",
        tuple(text_member(option, "value") for option in objects_member(body, "options")),
        read_only=isinstance(metadata, dict) and metadata.get("readOnlyValue") is True,
        unique=body.get("hasUniqueValue") is True,
        multiple=body.get("fieldType") in {None, "checkbox"},
    )
    name = text_member(body, "name")
    schema.add(type_, name, definition)
    return _property_json(name, definition)


def _property_json(name: str, definition: PropertyDefinition) -> JsonObject:
    return {
        "name": name,
        "type": "enumeration" if definition.kind == OWNER else definition.kind,
        "options": [{"value": option, "label": option} for option in definition.options],
        "hasUniqueValue": definition.unique,
        "modificationMetadata": {"readOnlyValue": definition.read_only},
    }
