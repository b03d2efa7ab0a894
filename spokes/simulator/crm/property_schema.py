"""The properties that records of one portal can have: HubSpot's own, and those that the portal has added."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from spokes.simulator.config import PortalConfig
from spokes.simulator.crm.object_types import CONTACT, ObjectType, ObjectTypes
from spokes.simulator.crm.property_refusals import PropertyRefusal
from spokes.simulator.crm.property_values import find_fault
from spokes.simulator.crm.standard_properties import (
    RESERVED_PREFIX,
    STANDARD_NAMES,
    standard_definition,
    standard_definitions,
)
from spokes.simulator.errors import HubSpotError, PropertyFinding, already_exists, invalid_request
from spokes.simulator.property_definition import KINDS, PropertyDefinition

PROPERTY_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
_MAX_UNIQUE: Final = 10  # of an object type; HubSpot's documentation of properties
_EMAIL: Final = PropertyDefinition(unique=True)  # of contacts: its own rules are in property_rules


@dataclass(slots=True)
class PropertySchema:
    """The properties of each object type.

    A type whose properties are not known accepts any, until the first is added: custom types, and those of HubSpot's
    that `standard_properties` does not list. `report_unknown` is called with each property that is refused because
    the portal does not have it.
    """

    portal_id: int
    is_strict: bool
    report_unknown: Callable[[ObjectType, str], None]
    _own: dict[str, dict[str, PropertyDefinition]] = field(default_factory=dict)

    @classmethod
    def from_config(
        cls, types: ObjectTypes, config: PortalConfig, report_unknown: Callable[[ObjectType, str], None]
    ) -> "PropertySchema":
        """Return the schema of a new portal."""
        schema = cls(config.portal_id, config.has_standard_properties, report_unknown)
        for type_name, definitions in config.properties.items():
            for name, definition in definitions.items():
                schema.add(types.resolve(type_name), name, definition)
        for type_name, names in config.sensitive_properties.items():
            type_ = types.resolve(type_name)
            schema._own.setdefault(type_.type_id, {}).update(
                {name: PropertyDefinition() for name in names if schema.find(type_, name) is None}
            )
        return schema

    def find(self, type_: ObjectType, name: str) -> PropertyDefinition | None:
        """Return a property of a type, None if the type does not have it."""
        own = self._own.get(type_.type_id, {})
        if name in own:
            return own[name]
        if name == "email" and type_.type_id == CONTACT:
            return _EMAIL
        standard = standard_definition(type_.plural, name)
        if self.is_strict and (type_.plural in STANDARD_NAMES or own):
            return standard
        return standard if standard and standard.read_only else PropertyDefinition()

    def properties(self, type_: ObjectType) -> Mapping[str, PropertyDefinition]:
        """Return the properties of a type that are known by name."""
        return {**(standard_definitions(type_.plural) if self.is_strict else {}), **self._own.get(type_.type_id, {})}

    def unique_names(self, type_: ObjectType) -> Iterable[str]:
        """Return the unique properties of a type."""
        names = (name for name, definition in self._own.get(type_.type_id, {}).items() if definition.unique)
        return ["email", *names] if type_.type_id == CONTACT else list(names)

    def add(self, type_: ObjectType, name: str, definition: PropertyDefinition) -> None:
        """Add a property.

        Raises:
            HubSpotError: 400 for a definition that HubSpot would refuse, 409 if the property exists.
        """
        if not PROPERTY_NAME.fullmatch(name) or name.startswith(RESERVED_PREFIX):
            raise _refused_definition(
                name, f'Property name "{name}" is not valid: use a-z, 0-9 and _, beginning with a letter, not with hs_.'
            )
        if definition.kind not in KINDS:
            raise _refused_definition(name, f"type must be one of: {', '.join(KINDS)}")
        if definition.options and definition.kind != "enumeration":
            raise _refused_definition(name, "Only a property of type enumeration has options.")
        if definition.unique and definition.kind not in {"string", "number"}:
            raise _refused_definition(name, "Only a property of type string or number can have unique values.")
        if definition.unique and len(list(self.unique_names(type_))) >= _MAX_UNIQUE:
            raise _refused_definition(name, f"At most {_MAX_UNIQUE} properties of a type can have unique values.")
        if name in self.properties(type_):
            raise already_exists(f"Property {name} of {type_.plural}", name)
        self._own.setdefault(type_.type_id, {})[name] = definition

    def add_options(self, type_: ObjectType, name: str, options: Iterable[str]) -> None:
        """Add options to an enumeration, such as the stages of a pipeline that the account has added.

        Raises:
            HubSpotError: 400, there is no such enumeration.
        """
        definition = self.find(type_, name)
        if definition is None or definition.kind != "enumeration":
            raise _refused_definition(name, f'"{name}" is no property of type enumeration of {type_.plural}')
        options = (*definition.options, *(option for option in options if option not in definition.options))
        self._own.setdefault(type_.type_id, {})[name] = definition._replace(options=options)

    def find_fault(self, type_: ObjectType, name: str, text: str) -> PropertyFinding | None:
        """Return why HubSpot refuses to write a value; "" clears a property."""
        definition = self.find(type_, name)
        if definition is None:
            self.report_unknown(type_, name)
            return PropertyRefusal.UNKNOWN.finding(name)
        return find_fault(name, definition, text)


def _refused_definition(name: str, message: str) -> HubSpotError:
    return invalid_request(message, code="INVALID_PROPERTY_DEFINITION", property_name=name)
