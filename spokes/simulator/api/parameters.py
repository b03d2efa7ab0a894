"""What a caller passed, read or refused as HubSpot refuses it. Rule: pure; what is malformed ends here, with a 400."""

from collections.abc import Mapping
from typing import Final

from spokes.simulator.changes import AssociationSpec
from spokes.simulator.errors import JsonObject, invalid_request

_DEFAULT_PAGE_SIZE: Final = 10


def property_values(item: Mapping[str, object]) -> dict[str, object]:
    """The `properties` to write, of a body or of one input of a batch.

    Raises:
        HubSpotError: 400, they are missing or no object.
    """
    properties = item.get("properties")
    if not isinstance(properties, dict):
        raise invalid_request("Some required fields were not set: [properties]")
    return properties


def objects_member(item: Mapping[str, object], name: str) -> list[JsonObject]:
    """A member that is a list of objects, empty where there is none.

    Raises:
        HubSpotError: 400.
    """
    value = item.get(name) or []
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise invalid_request(f"Invalid input JSON: {name} must be a list of objects")
    return value


def texts_member(item: Mapping[str, object], name: str) -> list[str]:
    """A member that is a list of names, empty where there is none.

    Raises:
        HubSpotError: 400.
    """
    value = item.get(name) or []
    if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
        raise invalid_request(f"Invalid input JSON: {name} must be a list of texts")
    return value


def optional_text_member(item: Mapping[str, object], name: str) -> str | None:
    """A member that may be missing, as text.

    Raises:
        HubSpotError: 400.
    """
    return None if item.get(name) is None else text_member(item, name)


def text_member(item: Mapping[str, object], name: str) -> str:
    """A member that must be there, as text: HubSpot takes ids as numbers too.

    Raises:
        HubSpotError: 400.
    """
    value = item.get(name)
    if value is None or isinstance(value, dict | list):
        raise invalid_request(f"Some required fields were not set: [{name}]")
    return str(value)


def association_specs(types: object) -> list[AssociationSpec]:
    """The `types` of an association.

    Raises:
        HubSpotError: 400, there are none or one is malformed.
    """
    if not isinstance(types, list) or not types or not all(isinstance(item, dict) for item in types):
        raise invalid_request("Some required fields were not set: [types]")
    try:
        return [
            AssociationSpec(str(t.get("associationCategory", "HUBSPOT_DEFINED")), int(t["associationTypeId"]))
            for t in types
        ]
    except (KeyError, TypeError, ValueError):
        raise invalid_request("Some required fields were not set: [associationTypeId]") from None


def page_limit(text: str | None, maximum: int, *, default: int = _DEFAULT_PAGE_SIZE) -> int:
    """A page size that HubSpot would take.

    Raises:
        HubSpotError: 400.
    """
    if text is None:
        return default
    if not text.isdecimal() or not 0 < int(text) <= maximum:
        raise invalid_request(f"limit must be between 1 and {maximum}")
    return int(text)


def cursor(text: str | None) -> int:
    """A paging cursor, 0 for the first page.

    Raises:
        HubSpotError: 400.
    """
    if not text:
        return 0
    if not text.isdecimal():
        raise invalid_request("after is not a valid cursor")
    return int(text)
