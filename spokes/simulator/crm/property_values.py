"""The values that a property can have, by its kind. Pure.

Source: HubSpot's documentation of properties and of timestamps, and its changelog of 2024-12 on spaces around values.
"""

import re
from datetime import UTC, datetime
from typing import Final

from spokes.simulator import property_definition
from spokes.simulator.crm.property_refusals import PropertyRefusal
from spokes.simulator.errors import PropertyFinding
from spokes.simulator.property_definition import PropertyDefinition

MAX_VALUE_CHARS: Final = 65_536
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d{1,15}", re.ASCII)
_ISO_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_DAY_MS: Final = 86_400_000


def find_fault(name: str, definition: PropertyDefinition, text: str) -> PropertyFinding | None:
    """Return why HubSpot refuses a value, None if it accepts it. The empty text clears a property."""
    if definition.read_only:
        return PropertyRefusal.READ_ONLY.finding(name)
    if len(text) > MAX_VALUE_CHARS:
        return PropertyRefusal.LENGTH.finding(name, limit=MAX_VALUE_CHARS)
    return _kind_fault(name, definition, text) if text else None


def _kind_fault(name: str, definition: PropertyDefinition, text: str) -> PropertyFinding | None:
    match definition.kind:
        case "number" if not _NUMBER.fullmatch(text):
            return PropertyRefusal.NUMBER.finding(name, value=text)
        case property_definition.OWNER if not _INTEGER.fullmatch(text):
            return PropertyRefusal.OWNER.finding(name, value=text)
        case "date" | "datetime":
            return _time_fault(name, text, is_date=definition.kind == "date")
        case "bool":
            return _option_fault(name, text, ("true", "false"), multiple=False)
        case "enumeration" if definition.options:
            return _option_fault(name, text, definition.options, multiple=definition.multiple)
    return None


def _option_fault(name: str, text: str, options: tuple[str, ...], *, multiple: bool) -> PropertyFinding | None:
    """HubSpot names the first wrong part of a value that joins several options."""
    for part in filter(None, text.split(";")) if multiple else [text]:
        if part not in options:
            return PropertyRefusal.OPTION.finding(name, value=part, options=", ".join(options))
    return None


def _time_fault(name: str, text: str, *, is_date: bool) -> PropertyFinding | None:
    at_ms = _epoch_ms(text)
    if at_ms is None:
        return PropertyRefusal.TIME.finding(name, value=text)
    if is_date and at_ms % _DAY_MS:
        seconds, milliseconds = divmod(at_ms % _DAY_MS, 1000)
        time = f"{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}.{milliseconds}"
        return PropertyRefusal.MIDNIGHT.finding(name, value=text, time=time)
    return None


def _epoch_ms(text: str) -> int | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _ISO_TIME.fullmatch(text):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
