"""`SubscribedEvent`: an event type that HubSpot sends, the same in all of HubSpot's spellings. Pure.

A subscription is classic (`contact.creation`) or generic (`object.creation` with an object type). Both cause events of
the same type, so only one of them may exist. Sources: HubSpot's docs "Configure webhooks", "Create generic webhook
subscriptions", and the subscription types of its OpenAPI specification.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from spokes.core.events import OBJECT_TYPES
from spokes.crm.object_types import singular

GENERIC: Final = "object"
SECTIONS: Final = ("crmObjects", "legacyCrmObjects", "hubEvents")  # of the component `webhooks` of a project
_RECORD_KINDS: Final = frozenset({"creation", "deletion", "propertyChange", "merge", "restore", "associationChange"})
_CLASSIC_KINDS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("company", "deal", "ticket", "line_item"), _RECORD_KINDS),
    "contact": _RECORD_KINDS | {"privacyDeletion"},
    "product": _RECORD_KINDS - {"associationChange"},
    "conversation": frozenset({"creation", "deletion", "privacyDeletion", "propertyChange", "newMessage"}),
}
_TYPE_IDS: Final = {name: type_id for type_id, name in OBJECT_TYPES.items()}
_NAMES_IN_PROJECTS: Final = {"goal": "goal_target", "meeting": "meeting_event", "payment": "commerce_payment"}
_NAMES_IN_EVENTS: Final = {name: event_name for event_name, name in _NAMES_IN_PROJECTS.items()}


class SubscribedEvent(NamedTuple):
    """Object type as events name it (`contact`, `2-1234567`), kind, and the property of a property change."""

    object_type: str
    kind: str
    property_name: str = ""

    def __str__(self) -> str:
        """Return the registration that matches it: `contact.propertyChange:email`."""
        return f"{self.type}:{self.property_name}" if self.property_name else self.type

    @property
    def type(self) -> str:
        """The event type without its property."""
        return f"{self.object_type}.{self.kind}"


def parse_event(text: str) -> SubscribedEvent:
    """Return the event that a registration names."""
    event_type, _, property_name = text.partition(":")
    object_type, _, kind = event_type.partition(".")
    return SubscribedEvent(object_type, kind, property_name)


def project_entry(event: SubscribedEvent) -> tuple[str, dict[str, object]]:
    """Return the section of the component `webhooks` and the entry that subscribes to an event."""
    property_ = {"propertyName": event.property_name} if event.property_name else {}
    if event.object_type == "conversation" or event.kind == "privacyDeletion":
        return "hubEvents", {"subscriptionType": event.type, **property_, "active": True}
    name = _NAMES_IN_PROJECTS.get(event.object_type, event.object_type)
    entry = {"subscriptionType": f"{GENERIC}.{event.kind}", "objectType": name, **property_, "active": True}
    return "crmObjects", entry


def event_of_project_entry(entry: Mapping[str, object]) -> SubscribedEvent | None:
    """Return the event of an entry of any section; None if its fields have other types than HubSpot's."""
    object_type = entry.get("objectType", entry.get("objectName"))  # the second in platform 2025.1
    return _event(entry.get("subscriptionType"), object_type, entry.get("propertyName"))


def api_fields(event: SubscribedEvent) -> dict[str, object]:
    """Return the fields that subscribe to an event by API: classic where HubSpot has the type, otherwise generic."""
    property_ = {"propertyName": event.property_name} if event.property_name else {}
    if event.kind in _CLASSIC_KINDS.get(event.object_type, ()):
        return {"eventType": event.type, **property_}
    return {"eventType": f"{GENERIC}.{event.kind}", "objectTypeId": type_id_of(event.object_type), **property_}


def type_id_of(object_type: str) -> str:
    """Return HubSpot's id of an object type; one that is an id, or unknown, is returned as it is."""
    return _TYPE_IDS.get(object_type, object_type)


def event_of_api_fields(fields: Mapping[str, object]) -> SubscribedEvent | None:
    """Return the event of a subscription as the API shows it; None if its fields have other types than HubSpot's."""
    return _event(fields.get("eventType"), fields.get("objectTypeId"), fields.get("propertyName"))


def _event(event_type: object, object_type: object, property_name: object) -> SubscribedEvent | None:
    if not isinstance(event_type, str) or "." not in event_type:
        return None
    family, _, kind = event_type.partition(".")
    if family == GENERIC:
        if not isinstance(object_type, str) or not object_type:
            return None
        family = _event_name(object_type)
    name = property_name if isinstance(property_name, str) and kind == "propertyChange" else ""
    return SubscribedEvent(family, kind, name)


def _event_name(object_type: str) -> str:
    folded = object_type.lower()
    name = singular(_NAMES_IN_EVENTS.get(folded, folded))
    return name if name in _TYPE_IDS else object_type
