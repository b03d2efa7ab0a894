"""HubSpot's rules for written property values: which it accepts, normalises, ignores or refuses. Pure.

Source: HubSpot's docs "Contacts guide" (life-cycle stage, e-mail) and "Properties guide".
"""

import re
from collections.abc import Mapping
from typing import Final

from spokes.simulator.crm.object_types import COMPANY, CONTACT, ObjectType
from spokes.simulator.crm.property_schema import PropertySchema
from spokes.simulator.errors import invalid_request

MAX_VALUE_CHARS: Final = 65_536
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_READ_ONLY: Final = frozenset({"hs_object_id", "hs_createdate", "hs_lastmodifieddate", "lastmodifieddate"})
_STAGES: Final = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)


def as_text(value: object) -> str:
    """Return a JSON value as HubSpot stores it: as text; null and "" both mean unset."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def accepted_changes(
    type_: ObjectType, current: Mapping[str, str], written: Mapping[str, object], schema: PropertySchema
) -> dict[str, str]:
    """Return the properties of `written` that change `current`: name -> new text, "" if cleared.

    Raises:
        HubSpotError: 400 with HubSpot's code for the first refused property.
    """
    changed: dict[str, str] = {}
    for name, value in written.items():
        text = _check_writable(name, as_text(value))
        schema.check(type_, name, text)
        if name == "email" and type_.type_id == CONTACT:
            text = _normalise_email(text)
        elif (
            name == "lifecyclestage"
            and type_.type_id in {CONTACT, COMPANY}
            and _is_earlier_stage(current.get(name), text)
        ):
            continue  # HubSpot returns 200 and keeps the later stage
        if text != current.get(name, ""):
            changed[name] = text
    return changed


def check_required(type_: ObjectType, written: Mapping[str, object]) -> None:
    """Check that a creation has the required properties of its type, such as `hs_timestamp` of activities.

    Raises:
        HubSpotError: 400.
    """
    for name in type_.required_properties:
        if not as_text(written.get(name)):
            message = f"Error creating {type_.singular.upper()}. Some required properties were not set."
            raise invalid_request(message, code="MISSING_REQUIRED_PROPERTY", property_name=name)


def _check_writable(name: str, text: str) -> str:
    if name in _READ_ONLY:
        message = f'"{name}" is a read only property; its value cannot be set.'
        raise invalid_request(message, code="READ_ONLY_VALUE", property_name=name)
    if len(text) > MAX_VALUE_CHARS:
        raise invalid_request(f'Property "{name}" is too long', code="VALUE_TOO_LONG", property_name=name)
    return text


def _normalise_email(text: str) -> str:
    email = text.strip().lower()
    if email and not _EMAIL.fullmatch(email):
        raise invalid_request("Email address is invalid", code="INVALID_EMAIL", property_name="email")
    return email


def _is_earlier_stage(stage: str | None, written: str) -> bool:
    if stage not in _STAGES or written not in _STAGES:
        return False  # cleared, unset, or a stage that the portal defined
    return _STAGES.index(written) < _STAGES.index(stage)
