"""Subscriptions to the journal: what they are for, what they hold, and how two are combined. Pure.

HubSpot has one subscription for a portal and an object type, which all users of the app share. Source: HubSpot's docs,
"Webhooks journal: subscriptions", and its API specification.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from spokes.core.json_reading.json_fields import read_id
from spokes.subscriptions.subscribed_events import GENERIC, SubscribedEvent, type_id_of

OBJECT: Final = "OBJECT"
_ASSOCIATION: Final = "ASSOCIATION"
_ERASURE: Final = "GDPR_PRIVACY_DELETION"
_LIFECYCLE: Final = "APP_LIFECYCLE_EVENT"
_TYPES: Final = (OBJECT, _ASSOCIATION, _ERASURE, _LIFECYCLE)
_LIFECYCLE_EVENTS: Final = ("4-1909196", "4-1916193")  # the app was installed, and uninstalled
_ACTIONS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "creation": (OBJECT, frozenset({"CREATE"})),
    "propertyChange": (OBJECT, frozenset({"UPDATE"})),
    "deletion": (OBJECT, frozenset({"DELETE"})),
    "merge": (OBJECT, frozenset({"MERGE"})),
    "restore": (OBJECT, frozenset({"RESTORE"})),
    "associationChange": (_ASSOCIATION, frozenset({"ASSOCIATION_ADDED", "ASSOCIATION_REMOVED"})),
    "privacyDeletion": (_ERASURE, frozenset({"GDPR_DELETE"})),
}
EVERY: Final = "*"  # among properties: all of them


class Subject(NamedTuple):
    """What a subscription is for: its type, its portal (0 for the whole app), and the id of an object or event type."""

    type: str
    portal_id: int
    target: str

    def __str__(self) -> str:
        """Return it for people."""
        name = f"{self.type} {self.target}"
        return f"{name} of portal {self.portal_id}" if self.portal_id else name


@dataclass(frozen=True, slots=True)
class Content:
    """Actions and properties of a subscription; `properties` contain EVERY if they are all included."""

    actions: frozenset[str] = frozenset()
    properties: frozenset[str] = frozenset()

    def __or__(self, other: "Content") -> "Content":
        return Content(self.actions | other.actions, self.properties | other.properties)

    def __sub__(self, other: "Content") -> "Content":
        return Content(self.actions - other.actions, self.properties - other.properties)

    def __bool__(self) -> bool:
        """Whether it has any action."""
        return bool(self.actions)

    def as_fields(self) -> dict[str, list[str]]:
        """Return it for the ledger."""
        return {"actions": sorted(self.actions), "properties": sorted(self.properties)}

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> "Content":
        """Return the content of a ledger's row or of HubSpot's fields."""
        return cls(_texts(fields.get("actions")), _texts(fields.get("properties")))


def wanted_subscriptions(events: Collection[SubscribedEvent], portals: Iterable[int]) -> dict[Subject, Content]:
    """Return the subscriptions that these portals need, and those for installs and uninstalls."""
    wanted: dict[Subject, Content] = {Subject(_LIFECYCLE, 0, event_id): Content() for event_id in _LIFECYCLE_EVENTS}
    for portal_id in portals:
        for event in sorted(events):
            if not gap(event):
                subject, content = subscription_for(event, portal_id)
                wanted[subject] = wanted.get(subject, Content()) | content
    return wanted


def subscription_for(event: SubscribedEvent, portal_id: int) -> tuple[Subject, Content]:
    """Return the subscription of a portal that brings an event, and what it must hold for it; `gap` is empty."""
    type_, actions = _ACTIONS[event.kind]
    names = {event.property_name or EVERY} if event.kind == "propertyChange" else set[str]()
    return Subject(type_, portal_id, type_id_of(event.object_type)), Content(actions, frozenset(names))


def gap(event: SubscribedEvent) -> str:
    """Return why the journal does not have an event, the empty text if it has."""
    if event.kind not in _ACTIONS or event.object_type == "conversation":
        return f"The journal has no events {event.type}."
    if event.object_type == GENERIC or event.object_type.startswith("p"):
        type_id = type_id_of(event.object_type)
        return "" if type_id != event.object_type else f"{event}: a subscription names one object type by its id."
    return ""


def combined(wanted: Content, remote: Content | None, ours: Content) -> Content:
    """Return what a subscription should hold: what is wanted, and what others have put into it.

    Args:
        remote: what HubSpot has, None if there is no subscription.
        ours: the part of it that we have put there, which may be removed.
    """
    if remote is None:
        return wanted
    return (remote - (ours - wanted)) | wanted


def is_same(first: Content, second: Content) -> bool:
    """Return whether two contents cause the same entries."""
    return first.actions == second.actions and _properties(first) == _properties(second)


def is_held(part: Content, whole: Content) -> bool:
    """Return whether a content causes all entries of another."""
    return part.actions <= whole.actions and (EVERY in whole.properties or part.properties <= whole.properties)


def request_body(subject: Subject, content: Content) -> dict[str, object]:
    """Return the fields that create or replace a subscription."""
    if subject.type == _LIFECYCLE:
        return {"subscriptionType": subject.type, "eventTypeId": subject.target, "properties": []}
    body: dict[str, object] = {
        "subscriptionType": subject.type,
        "portalId": subject.portal_id,
        "objectTypeId": subject.target,
        "actions": sorted(content.actions),
    }
    if subject.type == OBJECT:
        body |= {"properties": [] if EVERY in content.properties else sorted(content.properties), "objectIds": []}
    elif subject.type == _ASSOCIATION:
        body |= {"associatedObjectTypeIds": [], "objectIds": []}
    return body


def subject_of(fields: Mapping[str, object]) -> Subject | None:
    """Return what a subscription of HubSpot's is for; None for one of a type that we never make."""
    type_, portal_id = fields.get("subscriptionType"), read_id(fields.get("portalId")) or 0
    target = fields.get("eventTypeId" if type_ == _LIFECYCLE else "objectTypeId")
    if type_ not in _TYPES or not isinstance(target, str) or not target:
        return None
    return Subject(str(type_), 0 if type_ == _LIFECYCLE else portal_id, target)


def content_of(fields: Mapping[str, object]) -> Content:
    """Return what a subscription of HubSpot's holds; no properties mean all, if it includes updates."""
    content = Content.from_fields(fields)
    if fields.get("subscriptionType") == _LIFECYCLE:
        return Content()
    if "UPDATE" in content.actions and not content.properties:
        return Content(content.actions, frozenset({EVERY}))
    return content


def is_restricted(fields: Mapping[str, object]) -> bool:
    """Return whether a subscription of HubSpot's is for some objects only, which is not enough for handlers."""
    return bool(fields.get("objectIds") or fields.get("associatedObjectTypeIds"))


def _properties(content: Content) -> frozenset[str]:
    return frozenset({EVERY}) if EVERY in content.properties else content.properties


def _texts(values: object) -> frozenset[str]:
    return frozenset(value for value in values if isinstance(value, str)) if isinstance(values, list) else frozenset()
