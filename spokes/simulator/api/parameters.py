"""Parsing of request parameters and body members; malformed ones raise a 400 as HubSpot returns it. Pure."""

from collections.abc import Mapping
from typing import Final

from spokes.simulator.changes import AssociationSpec
from spokes.simulator.errors import JsonObject, invalid_request

_DEFAULT_PAGE_SIZE: Final = 10


def property_values(item: Mapping[str, object]) -> dict[str, object]:
    """Return the `properties` to write, of a body or of one input of a batch.

    Raises:
        HubSpotError: 400, they are missing or not an object, or a value is an object or a list.
    """
    properties = item.get("properties")
    if not isinstance(properties, dict):
        raise invalid_request("Some required fields were not set: [properties]")
    for name, value in properties.items():
        if isinstance(value, dict | list):
            raise invalid_request(f"Invalid input JSON: the value of {name} must be a text")
    return properties


def objects_member(item: Mapping[str, object], name: str) -> list[JsonObject]:
    """Return a member that is a list of objects; empty if it is missing.

    Raises:
        HubSpotError: 400.
    """
    value = item.get(name) or []
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise invalid_request(f"Invalid input JSON: {name} must be a list of objects")
    return value


def texts_member(item: Mapping[str, object], name: str) -> list[str]:
    """Return a member that is a list of strings; empty if it is missing.

    Raises:
        HubSpotError: 400.
    """
    value = item.get(name) or []
    if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
        raise invalid_request(f"Invalid input JSON: {name} must be a list of texts")
    return value


def optional_text_member(item: Mapping[str, object], name: str) -> str | None:
    """Return a member as text, or None if it is missing.

    Raises:
        HubSpotError: 400.
    """
    return None if item.get(name) is None else text_member(item, name)


def text_member(item: Mapping[str, object], name: str) -> str:
    """Return a required member as text; HubSpot accepts ids as numbers too.

    Raises:
        HubSpotError: 400.
    """
    value = item.get(name)
    if value is None or isinstance(value, dict | list):
        raise invalid_request(f"Some required fields were not set: [{name}]")
    return str(value)


def association_specs(types: object) -> list[AssociationSpec]:
    """Return the association types in a `types` member.

    Raises:
        HubSpotError: 400, the list is missing, empty or malformed.
    """
    if not isinstance(types, list) or not types or not all(isinstance(item, dict) for item in types):
        raise invalid_request("Some required fields were not set: [types]")
    try:
        return [
            AssociationSpec(str(t.get("associationCategory", "HUBSPOT_DEFINED")), int(t["associationTypeId"]))
            for t in types
        ]
    except (KeyError, TypeError, ValueError):
        raise invalid_request("Some required fields were not set: [associationCategory, associationTypeId]") from None


def page_limit(text: str | None, maximum: int, *, default: int = _DEFAULT_PAGE_SIZE) -> int:
    """Return the page size, if HubSpot accepts it.

    Raises:
        HubSpotError: 400.
    """
    if text is None:
        return default
    if not text.isdecimal() or not 0 < int(text) <= maximum:
        raise invalid_request(f"limit must be between 1 and {maximum}")
    return int(text)


def cursor(text: str | None) -> int:
    """Return a paging cursor, 0 for the first page.

    Raises:
        HubSpotError: 400.
    """
    if not text:
        return 0
    if not text.isdecimal():
        raise invalid_request("after is not a valid cursor")
    return int(text)
