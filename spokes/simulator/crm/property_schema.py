"""The properties that records of one portal can have: HubSpot's own, and those that the portal has added."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from spokes.simulator.config import PortalConfig
from spokes.simulator.crm.object_types import ObjectType, ObjectTypes
from spokes.simulator.crm.standard_properties import RESERVED_PREFIX, STANDARD_PROPERTIES
from spokes.simulator.errors import already_exists, invalid_request

KINDS: Final = ("string", "number", "date", "datetime", "bool", "enumeration", "phone_number")
_DAY_MS: Final = 86_400_000
PROPERTY_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
_INTEGER: Final = re.compile(r"-?\d{1,15}")


class OwnProperty(NamedTuple):
    """A property that the portal has added: its kind, one of KINDS, and the options of an enumeration."""

    kind: str = "string"
    options: tuple[str, ...] = ()


class PropertySchema:
    """The properties of each object type, by objectTypeId."""

    def __init__(
        self, types: ObjectTypes, config: PortalConfig, report_unknown: Callable[[ObjectType, str], None]
    ) -> None:
        """`report_unknown` is called with each property that is refused because the portal does not have it."""
        self._report_unknown = report_unknown
        self._only: dict[str, frozenset[str]] = {}
        if config.has_standard_properties:
            self._only = {types.resolve(name).type_id: names for name, names in STANDARD_PROPERTIES.items()}
        self._only |= {types.resolve(name).type_id: names for name, names in config.known_properties.items()}
        self._prefix = RESERVED_PREFIX if config.has_standard_properties else ""
        self._own: dict[str, dict[str, OwnProperty]] = {}
        for name, kinds in config.property_types.items():
            own = {property_name: OwnProperty(kind) for property_name, kind in kinds.items()}
            self._own.setdefault(types.resolve(name).type_id, {}).update(own)

    def own_properties(self, type_: ObjectType) -> Mapping[str, OwnProperty]:
        """Return the properties that the portal has added to a type."""
        return self._own.get(type_.type_id, {})

    def add(self, type_: ObjectType, name: str, definition: OwnProperty) -> None:
        """Add a property.

        Raises:
            HubSpotError: 400 for a name or kind that HubSpot does not have, 409 if the property exists.
        """
        if not PROPERTY_NAME.fullmatch(name) or name.startswith(RESERVED_PREFIX):
            raise invalid_request(
                f'Property name "{name}" is not valid: use a-z, 0-9 and _, beginning with a letter and not with hs_.',
                code="INVALID_NAME",
                property_name=name,
            )
        if definition.kind not in KINDS:
            raise invalid_request(f"type must be one of: {', '.join(KINDS)}", property_name=name)
        if name in self.own_properties(type_) or name in self._only.get(type_.type_id, ()):
            raise already_exists(f"Property {name} of {type_.plural}", name)
        self._own.setdefault(type_.type_id, {})[name] = definition

    def check(self, type_: ObjectType, name: str, text: str) -> None:
        """Check that a property exists and that the value suits its kind; "" clears it.

        Raises:
            HubSpotError: 400.
        """
        own = self.own_properties(type_).get(name)
        if own is None:
            only = self._only.get(type_.type_id)
            if only is None or name in only or (self._prefix and name.startswith(self._prefix)):
                return
            self._report_unknown(type_, name)
            raise invalid_request(f'Property "{name}" does not exist', code="PROPERTY_DOESNT_EXIST", property_name=name)
        if text and (fault := _value_fault(own, text)):
            code, message = fault
            raise invalid_request(f'Property "{name}": {message}', code=code, property_name=name)


def _value_fault(own: OwnProperty, text: str) -> tuple[str, str] | None:
    """Return HubSpot's code for a value that the kind does not allow, and a message; None if it is allowed."""
    match own.kind:
        case "number" if not _is_number(text):
            return "INVALID_INTEGER", "the value is not a number."
        case "bool" if text not in {"true", "false"}:
            return "INVALID_OPTION", "the value is neither true nor false."
        case "date" | "datetime" if _epoch_ms(text) is None:
            return "INVALID_DATE", "the value is neither a time nor epoch milliseconds."
        case "date" if (_epoch_ms(text) or 0) % _DAY_MS:
            return "INVALID_DATE", "the time is not midnight UTC."
        case "enumeration" if own.options and not {part for part in text.split(";") if part} <= {*own.options}:
            return "INVALID_OPTION", f"the allowed options are: {', '.join(own.options)}."
    return None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _epoch_ms(text: str) -> int | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
