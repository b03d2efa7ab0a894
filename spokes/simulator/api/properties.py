"""Endpoint that lists the properties of a type, as far as the portal's configuration names them."""

from http import HTTPStatus

from spokes.simulator.api.call import Call, EndpointResponse
from spokes.simulator.errors import endpoint_not_found


def list_properties(call: Call) -> EndpointResponse:
    """GET properties/{type}: name and type of each property; 404 for a type without configured properties."""
    crm, type_ = call.portal.crm, call.object_type()
    for name, types in call.portal.config.property_types.items():
        if crm.types.resolve(name) == type_:
            results = [{"name": property_name, "type": kind} for property_name, kind in types.items()]
            return EndpointResponse(HTTPStatus.OK, {"results": results})
    raise endpoint_not_found()
