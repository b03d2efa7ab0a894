"""HubSpot's rules for written property values: which it accepts, normalises, ignores or refuses. Pure.

Source: HubSpot's docs "Contacts guide" (life-cycle stage, e-mail) and "Properties guide".
"""

import re
from collections.abc import Mapping
from typing import Final

from spokes.simulator.crm.object_types import COMPANY, CONTACT, ObjectType
from spokes.simulator.crm.property_refusals import PropertyRefusal
from spokes.simulator.crm.property_schema import PropertySchema
from spokes.simulator.crm.standard_options import LIFECYCLE_STAGES
from spokes.simulator.errors import PropertyFinding, invalid_properties

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


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
        HubSpotError: 400 with all properties that HubSpot refuses.
    """
    changed: dict[str, str] = {}
    findings: list[PropertyFinding] = []
    for name, value in written.items():
        text = as_text(value)
        finding = schema.find_fault(type_, name, text)
        if name == "email" and type_.type_id == CONTACT:
            text = text.strip().lower()
            if text and not _EMAIL.fullmatch(text):
                finding = PropertyRefusal.EMAIL.finding(name, value=text)
        if finding is not None:
            findings.append(finding)
        elif _is_kept_stage(type_, name, current.get(name), text):
            continue  # HubSpot returns 200 and keeps the later stage
        elif text != current.get(name, ""):
            changed[name] = text
    if findings:
        raise invalid_properties(findings, schema.portal_id)
    return changed


def check_required(type_: ObjectType, written: Mapping[str, object], schema: PropertySchema) -> None:
    """Check that a creation has the required properties of its type, such as `hs_timestamp` of activities.

    Raises:
        HubSpotError: 400 with those that are missing.
    """
    missing = [name for name in type_.required_properties if not as_text(written.get(name))]
    if missing:
        raise invalid_properties([PropertyRefusal.REQUIRED.finding(name) for name in missing], schema.portal_id)


def _is_kept_stage(type_: ObjectType, name: str, stage: str | None, written: str) -> bool:
    """Return whether a life-cycle stage is earlier than the present one; other stages are the account's own."""
    if name != "lifecyclestage" or type_.type_id not in {CONTACT, COMPANY}:
        return False
    if stage not in LIFECYCLE_STAGES or written not in LIFECYCLE_STAGES:
        return False
    return LIFECYCLE_STAGES.index(written) < LIFECYCLE_STAGES.index(stage)
