"""The OpenAPI document of the API, generated from the route declarations that serve it."""

import re
from collections.abc import Iterable
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from spokes.console.accounts.policy import PublicAccess
from spokes.console.api.route import PREFIX, ApiRoute

_PATH_PARAMETER: Final = re.compile(r"\{(\w+):((?:[^{}]|\{[^{}]*\})+)\}")
_REF: Final = "#/components/schemas/{model}"
_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "correlation_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "correlation_id": {"type": "string"},
    },
}


def document(routes: Iterable[ApiRoute]) -> dict[str, object]:
    """Return the OpenAPI 3.1 document of `routes`."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = PREFIX + _PATH_PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Spokes", "version": "1", "description": "HubSpot webhooks in, CRM work out."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(route: ApiRoute, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{pattern}$"}}
        for name, pattern in _PATH_PARAMETER.findall(route.path)
    ]
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "responses": {
            "200": {"description": "Done", "content": _response_content(route, schemas)},
            "default": {
                "description": "The request failed",
                "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}},
            },
        },
    }
    if not isinstance(route.rule, PublicAccess):
        operation["security"] = [{"token": []}]
        operation["description"] = f"Needs the permission `{route.rule}`."
    if route.request_type is not None and route.method == "GET":
        parameters += _query_parameters(route.request_adapter, schemas)
    elif route.request_type is not None:
        schema = _schema(route.request_adapter, schemas, "validation")
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if parameters:
        operation["parameters"] = parameters
    return operation


def _response_content(route: ApiRoute, schemas: dict[str, Any]) -> dict[str, Any]:
    if route.stream_types:
        return {media: {"schema": {"type": "string"}} for media in route.stream_types}
    return {"application/json": {"schema": _schema(route.response_adapter, schemas, "serialization")}}


def _query_parameters(adapter: TypeAdapter[Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one parameter per field of a query."""
    schema = adapter.json_schema(ref_template=_REF)
    schemas |= schema.pop("$defs", {})
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(field)}
        for name, field in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema without null, which a URL cannot express."""
    present = {name: value for name, value in schema.items() if name != "default" or value is not None}
    kinds = [kind for kind in present.pop("anyOf", ()) if kind != {"type": "null"}]
    return {**present, **kinds[0]} if kinds else present


def _schema(adapter: TypeAdapter[Any], schemas: dict[str, Any], mode: JsonSchemaMode) -> dict[str, Any]:
    """Return the schema of a type; the schemas it refers to are added to `schemas`."""
    schema = adapter.json_schema(ref_template=_REF, mode=mode)
    schemas |= schema.pop("$defs", {})
    return schema


def _operation_id(route: ApiRoute) -> str:
    parts = re.findall("[a-z]+", _PATH_PARAMETER.sub(r"by_\1", route.path))
    return "_".join([route.method.lower(), *parts])
