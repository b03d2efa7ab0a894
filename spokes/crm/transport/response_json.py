"""Read values out of HubSpot's JSON responses; any field may be missing or of another type."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]


def elements(body: Json, name: str) -> list[dict[str, Any]]:
    """The objects in a list of an answer; whatever else stands there is left out."""
    values = body.get(name)
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def text_id(value: object) -> str:
    """An id as text, the way HubSpot asks for, whether it came as text or as a number."""
    return "" if value is None else str(value)
