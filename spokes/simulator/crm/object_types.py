"""Object types and the names HubSpot accepts for them. The simulator stores a type as its objectTypeId.

Source of ids and defaults: HubSpot's docs "Using object APIs".
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from spokes.simulator.errors import invalid_request

CONTACT: Final = "0-1"
COMPANY: Final = "0-2"
DEAL: Final = "0-3"
TICKET: Final = "0-5"


class ObjectType(NamedTuple):
    """One object type: its id, both names, the properties a read returns by default and those a creation requires."""

    type_id: str
    singular: str
    plural: str
    default_properties: tuple[str, ...] = ()
    required_properties: tuple[str, ...] = ()

    @property
    def last_modified(self) -> str:
        """The property with the time of the last change; contacts have it without the prefix."""
        return "lastmodifieddate" if self.type_id == CONTACT else "hs_lastmodifieddate"

    @property
    def always_returned(self) -> tuple[str, str, str]:
        """Properties that every read returns."""
        return ("createdate", self.last_modified, "hs_object_id")


_ACTIVITY_REQUIRED: Final = ("hs_timestamp",)

STANDARD_TYPES: Final[tuple[ObjectType, ...]] = (
    ObjectType(CONTACT, "contact", "contacts", ("email", "firstname", "lastname")),
    ObjectType(COMPANY, "company", "companies", ("domain", "name")),
    ObjectType(DEAL, "deal", "deals", ("amount", "closedate", "dealname", "dealstage", "pipeline")),
    ObjectType(
        TICKET, "ticket", "tickets", ("content", "hs_pipeline", "hs_pipeline_stage", "hs_ticket_priority", "subject")
    ),
    ObjectType("0-7", "product", "products", ("description", "name", "price")),
    ObjectType("0-8", "line_item", "line_items", ("name", "price", "quantity")),
    ObjectType("0-14", "quote", "quotes"),
    ObjectType("0-18", "communication", "communications", required_properties=_ACTIVITY_REQUIRED),
    ObjectType("0-19", "feedback_submission", "feedback_submissions"),
    ObjectType("0-27", "task", "tasks", required_properties=_ACTIVITY_REQUIRED),
    ObjectType("0-46", "note", "notes", required_properties=_ACTIVITY_REQUIRED),
    ObjectType("0-47", "meeting", "meetings", required_properties=_ACTIVITY_REQUIRED),
    ObjectType("0-48", "call", "calls", required_properties=_ACTIVITY_REQUIRED),
    ObjectType("0-49", "email", "emails", required_properties=_ACTIVITY_REQUIRED),
    ObjectType("0-53", "invoice", "invoices"),
    ObjectType("0-54", "marketing_event", "marketing_events"),
    ObjectType("0-69", "subscription", "subscriptions"),
    ObjectType("0-74", "goal", "goals"),
    ObjectType("0-84", "discount", "discounts"),
    ObjectType("0-85", "fee", "fees"),
    ObjectType("0-86", "tax", "taxes"),
    ObjectType("0-101", "payment", "payments"),
    ObjectType("0-115", "user", "users"),
    ObjectType("0-116", "postal_mail", "postal_mails", required_properties=_ACTIVITY_REQUIRED),
    ObjectType("0-123", "order", "orders"),
    ObjectType("0-136", "lead", "leads"),
    ObjectType("0-142", "cart", "carts"),
    ObjectType("0-162", "service", "services"),
    ObjectType("0-410", "course", "courses"),
    ObjectType("0-420", "listing", "listings"),
    ObjectType("0-421", "appointment", "appointments"),
    ObjectType("0-970", "project", "projects"),
)

ANY_CUSTOM_TYPE: Final = ObjectType("2-0", "custom", "custom")  # stands for all of them where only scopes count
_CUSTOM_ID: Final = re.compile(r"2-\d+")

# Scopes that do not follow the pattern crm.objects.<plural>.<read|write>. Source: HubSpot's docs "Scopes".
_SCOPE_AREA: Final[Mapping[str, str]] = {
    TICKET: "tickets",
    "0-7": "e-commerce",
    "0-8": "e-commerce",
    # Activities need the scopes of contacts.
    "0-18": "crm.objects.contacts",
    "0-27": "crm.objects.contacts",
    "0-46": "crm.objects.contacts",
    "0-47": "crm.objects.contacts",
    "0-48": "crm.objects.contacts",
    "0-49": "crm.objects.contacts",
    "0-116": "crm.objects.contacts",
}


class ObjectTypes:
    """The standard and custom types of one portal, by each of their names."""

    def __init__(self, custom: Mapping[str, str], portal_id: int) -> None:
        """`custom` maps a custom type's name to its id: {"pets": "2-3465404"}."""
        self._by_name: dict[str, ObjectType] = {}
        for known in STANDARD_TYPES:
            self._by_name |= dict.fromkeys((known.type_id, known.singular, known.plural), known)
        for name, type_id in custom.items():
            custom_type = ObjectType(type_id, name, name)
            self._by_name |= dict.fromkeys((type_id, name, f"p{portal_id}_{name}"), custom_type)

    def resolve(self, name: str) -> ObjectType:
        """Return the type of that name: plural, singular, id or fully qualified.

        Raises:
            HubSpotError: 400, there is no such type.
        """
        known = self._by_name.get(name) or self._by_name.get(name.lower())
        if known is not None:
            return known
        if _CUSTOM_ID.fullmatch(name):
            return self._by_name.setdefault(name, ObjectType(name, name, name))
        raise invalid_request(f"Unable to infer object type from: {name}")


def required_scopes(type_: ObjectType, *, write: bool) -> tuple[str, ...]:
    """Return the scopes for a call on `type_`; the token needs one of them."""
    area = _SCOPE_AREA.get(type_.type_id)
    if area is not None and not area.startswith("crm."):
        return (area,)
    if area is None:
        plural = "custom" if _CUSTOM_ID.fullmatch(type_.type_id) else type_.plural
        area = f"crm.objects.{plural}"
    return (f"{area}.{'write' if write else 'read'}",)
