"""The code and the property that a refusal of HubSpot names.

HubSpot's texts quote values, so only what looks like a code or like the internal name of a property is kept. Pure.
Source: HubSpot's docs, "Error handling"; refusals with a list of findings in the message as in public issues.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeGuard

import orjson

from spokes.crm.transport.errors.error_classes import category_of
from spokes.crm.transport.response_json import Json, elements

_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{2,59}")
_PROPERTY: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
_PROPERTY_IN_MESSAGE: Final = re.compile(r'(?:Property|property) "([a-z][a-z0-9_]{0,99})" does not exist')
_PROPERTY_FIELDS: Final = ("propertyName", "propertyNames", "property", "name")
_NO_PROPERTIES: Final = frozenset({"body", "header", "path", "query", "properties", "propertyname", "id"})
_MAX_MESSAGE_CHARS: Final = 10_000


def refusal_code(body: Json) -> str:
    """Return the most specific code, such as PROPERTY_DOESNT_EXIST; empty if there is none but the category."""
    category = category_of(body)
    for part in _parts(body):
        for field in ("code", "error", "subCategory", "errorType"):
            value = part.get(field)
            code = value.rpartition(".")[2] if isinstance(value, str) else ""
            if _CODE.fullmatch(code) and code != category:
                return code
    return ""


def refused_property(body: Json) -> str:
    """Return the internal name of the first property that the refusal names; empty if it names none."""
    for part in _parts(body):
        for mapping in filter(_is_mapping, (part.get("context"), part.get("errorTokens"), part)):
            for field in _PROPERTY_FIELDS:
                if name := _property(mapping.get(field)):
                    return name
        if name := _property(part.get("in")):
            return name
        message = part.get("message")
        if isinstance(message, str) and (match := _PROPERTY_IN_MESSAGE.search(message[:_MAX_MESSAGE_CHARS])):
            return match[1]
    return ""


def _parts(body: Json) -> Iterator[Json]:
    """Yield the single findings of a refusal, then the refusal itself."""
    yield from elements(body, "errors")
    message = body.get("message")
    if isinstance(message, str) and "[{" in message:
        try:
            findings = orjson.loads(message[message.index("[{") :])
        except orjson.JSONDecodeError:
            findings = []
        yield from elements({"findings": findings}, "findings")
    yield body


def _is_mapping(value: object) -> TypeGuard[Json]:
    return isinstance(value, Mapping)


def _property(value: object) -> str:
    values = value if isinstance(value, list) else [value]
    names = (name for name in values if isinstance(name, str) and name.casefold() not in _NO_PROPERTIES)
    return next(filter(_PROPERTY.fullmatch, names), "")
