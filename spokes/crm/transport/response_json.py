"""Read values out of HubSpot's JSON responses; any field may be missing or of another type."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]


def elements(body: Json, name: str) -> list[dict[str, Any]]:
    """Return the objects in the list `name` of a response, without elements of other types."""
    values = body.get(name)
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def text_id(value: object) -> str:
    """Return an id or value as text, whether it came as text or as a number; empty for None."""
    return "" if value is None else str(value)
