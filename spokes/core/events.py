"""`Event`: one element of a webhook request in HubSpot's own terms, the same for both of HubSpot's dialects.

No field is dropped: `raw` keeps all that HubSpot sent, known or not.
Sources: HubSpot's "Webhooks API guide" and "Create generic webhook subscriptions".
"""

from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, TypeAlias

from spokes.core.errors import MalformedEvent

RawEvent: TypeAlias = dict[str, Any]  # one element as HubSpot sent it; HubSpot may add fields at any time

# HubSpot's docs, "Using Object APIs": the generic dialect's ids for the names of the classic dialect.
OBJECT_TYPES: Final[Mapping[str, str]] = {
    "0-1": "contact", "0-2": "company", "0-3": "deal", "0-5": "ticket", "0-7": "product", "0-8": "line_item",
    "0-14": "quote", "0-18": "communication", "0-19": "feedback_submission", "0-27": "task", "0-46": "note",
    "0-47": "meeting", "0-48": "call", "0-49": "email", "0-53": "invoice", "0-54": "marketing_event",
    "0-69": "subscription", "0-74": "goal", "0-84": "discount", "0-85": "fee", "0-86": "tax", "0-101": "payment",
    "0-115": "user", "0-116": "postal_mail", "0-123": "order", "0-136": "lead", "0-142": "cart", "0-162": "service",
    "0-410": "course", "0-420": "listing", "0-421": "appointment", "0-970": "project",
}  # fmt: skip

# Kinds of event that carry nothing but the object's id.
OBJECT_ONLY_KINDS: Final = frozenset({"creation", "deletion", "restore", "privacyDeletion"})
_KINDS_WITH_OBJECT: Final = OBJECT_ONLY_KINDS | {"propertyChange", "merge", "newMessage"}
_MAX_TYPE_LENGTH: Final = 100

# Fields of nearly every element, and types that need no further parsing: the fast path of `Event` reads these.
_COMMON_FIELDS: Final = itemgetter("subscriptionType", "portalId", "occurredAt", "eventId", "objectId")
_COMMON_TYPES: Final = {
    f"{family}.{kind}": (family, kind)
    for family in ("contact", "company", "deal", "ticket", "product", "line_item", "object")
    for kind in ("creation", "deletion", "restore", "privacyDeletion", "propertyChange", "merge")
}


class Event:
    """One event of HubSpot. Immutable.

    `type` is the same for both dialects: `object.creation` with objectTypeId 0-1 is `contact.creation` too.
    `object_id` is text, as HubSpot recommends. The object of an association change is the one the association
    starts from.
    """

    __slots__ = ("kind", "object_id", "object_type", "occurred_at", "portal_id", "raw", "subscription_type")

    def __init__(self, raw: RawEvent) -> None:
        """Parse one element.

        Raises:
            MalformedEvent: naming the first invalid field.
        """
        self.raw = raw
        try:
            subscription_type, portal_id, occurred_at, event_id, object_id = _COMMON_FIELDS(raw)
            family, kind = _COMMON_TYPES[subscription_type]
            if family == "object":
                family = OBJECT_TYPES[raw["objectTypeId"]]
            name = raw["propertyName"] if kind == "propertyChange" else ""
        except (KeyError, TypeError):  # a field is missing or unusual
            self._parse_slow()
            return
        # `type() is`, because isinstance takes True for an int and HubSpot does not.
        common = type(portal_id) is type(occurred_at) is type(event_id) is type(object_id) is int and type(name) is str
        if not common or occurred_at < 0:
            self._parse_slow()
            return
        self.subscription_type = subscription_type
        self.portal_id = portal_id
        self.occurred_at = occurred_at
        self.object_type = family
        self.kind = kind
        self.object_id = str(object_id)

    def _parse_slow(self) -> None:
        """Parse an element of any shape, field by field.

        Raises:
            MalformedEvent: naming the first invalid field.
        """
        raw = self.raw
        try:
            subscription_type = raw.get("subscriptionType") or raw.get("eventType")
            portal_id = raw.get("portalId")
            occurred_at = raw.get("occurredAt")
        except AttributeError:
            raise MalformedEvent("not_an_object") from None
        if type(subscription_type) is not str or len(subscription_type) > _MAX_TYPE_LENGTH:
            raise MalformedEvent("subscription_type")
        if type(portal_id) is not int:
            raise MalformedEvent("portal_id")
        if type(occurred_at) is not int or occurred_at < 0:
            raise MalformedEvent("occurred_at")
        event_id = raw.get("eventId")
        if type(event_id) is not int and event_id is not None:
            raise MalformedEvent("event_id")
        family, kind = _split_type(subscription_type)
        object_id = raw.get("objectId")
        if kind == "associationChange":
            object_id, family = _association_source(raw, family)
        elif type(object_id) is not int and (object_id is not None or kind in _KINDS_WITH_OBJECT):
            raise MalformedEvent("object_id")
        if family == "object":
            type_id = raw.get("objectTypeId")
            if type(type_id) is str:
                family = OBJECT_TYPES.get(type_id, type_id)
            elif kind in _KINDS_WITH_OBJECT:
                raise MalformedEvent("object_type_id")
        if kind == "propertyChange" and type(raw.get("propertyName")) is not str:
            raise MalformedEvent("property_name")
        self.subscription_type = subscription_type
        self.portal_id = portal_id
        self.occurred_at = occurred_at
        self.object_type = family
        self.kind = kind
        self.object_id = "" if object_id is None else str(object_id)

    @property
    def type(self) -> str:
        """The type that handlers register for, the same for both dialects: `deal.propertyChange`."""
        return f"{self.object_type}.{self.kind}"

    @property
    def event_id(self) -> int | None:
        """HubSpot's id of the change that caused the event. Not unique."""
        return self.raw.get("eventId")

    @property
    def app_id(self) -> int | None:
        """The id of the subscribed app."""
        return self.raw.get("appId")

    @property
    def property_name(self) -> str | None:
        """The name of the changed property; None for other kinds."""
        return self.raw.get("propertyName")

    @property
    def property_value(self) -> str | None:
        """The new value; None if the property was cleared, or if it is sensitive and must be read from the CRM."""
        return None if self.is_sensitive else self.raw.get("propertyValue")

    @property
    def is_sensitive(self) -> bool:
        """Whether HubSpot withheld the value: the generic dialect sends a flag, the classic one the text REDACTED."""
        return self.raw.get("isSensitive") is True or self.raw.get("propertyValue") == "REDACTED"

    @property
    def change_source(self) -> str | None:
        """The source of the change, in HubSpot's open vocabulary: CRM_UI, INTEGRATION, IMPORT, ..."""
        return self.raw.get("changeSource")

    @property
    def merged_ids(self) -> tuple[str, ...]:
        """The ids that a merge retired: the losers, and the primary record if the merge created a new one."""
        ids = [self.raw.get("primaryObjectId"), *(self.raw.get("mergedObjectIds") or ())]
        return tuple(str(i) for i in ids if i is not None and str(i) != self.survivor_id)

    @property
    def survivor_id(self) -> str:
        """The surviving id after a merge; `object_id` for every other kind."""
        return str(self.raw.get("newObjectId") or self.raw.get("primaryObjectId") or self.object_id)


@lru_cache(maxsize=1024)
def _split_type(subscription_type: str) -> tuple[str, str]:
    """Split "contact.creation" into object type and kind."""
    family, _, kind = subscription_type.partition(".")
    return family, kind


def _association_source(raw: RawEvent, family: str) -> tuple[int, str]:
    """Return id and type of the object that an association starts from.

    Raises:
        MalformedEvent: one end is missing.
    """
    from_id, to_id = raw.get("fromObjectId"), raw.get("toObjectId")
    if type(from_id) is not int or type(to_id) is not int:
        raise MalformedEvent("association_ends")
    from_type = raw.get("fromObjectTypeId")
    if family == "object" and type(from_type) is str:
        family = OBJECT_TYPES.get(from_type, from_type)
    return from_id, family
