"""`Event`: one element of a webhook request in HubSpot's own terms, the same for both of HubSpot's dialects.

The one place that reads fields: each to its type, or to "absent" where HubSpot sent another type. No other module reads
`raw` by field name. No field is dropped: `raw` keeps all that HubSpot sent, known or not, with ids as numbers.
Sources: HubSpot's "Webhooks API guide" and "Create generic webhook subscriptions".
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, Literal, TypeAlias

from spokes.core.errors import MalformedEvent
from spokes.core.json_reading.json_fields import (
    read_bigint,
    read_flag,
    read_id,
    read_ids,
    read_integer,
    read_scalar_text,
    read_text,
)

RawEvent: TypeAlias = dict[str, Any]  # one element as HubSpot sent it; HubSpot may add fields at any time
Intake: TypeAlias = Literal["push", "journal", "backfill", "replay"]
INTAKES: Final[tuple[Intake, ...]] = (  # the ways by which an event enters the queue
    "push",  # a signed request of HubSpot's
    "journal",  # read from HubSpot's webhooks journal
    "backfill",  # made from what the CRM holds
    "replay",  # queued again by an operator: a dead letter, or a content of the quarantine
)

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
_KNOWN_KINDS: Final = _KINDS_WITH_OBJECT | {"associationChange"}
_MAX_TYPE_LENGTH: Final = 100
_OBJECT_TYPE: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")  # part of Redis keys and their patterns
_TYPE: Final = re.compile(r"[A-Za-z0-9_-]{1,100}\.[A-Za-z]{1,40}")
_PROPERTY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_MAX_BIGINT: Final = 2**63 - 1
REDACTED: Final = "REDACTED"  # the classic dialect's text in place of a withheld value

# Integers of every event, and those of kinds that we know: as text they are stored as numbers, so that every version of
# the workers reads them. In an unknown kind each further field is part of the event key and stays as it was sent.
_COMMON_INTEGERS: Final = ("portalId", "occurredAt", "eventId", "objectId")
_KNOWN_INTEGERS: Final = ("appId", "subscriptionId", "attemptNumber", "fromObjectId", "toObjectId")
_MERGE_IDS: Final = ("primaryObjectId", "newObjectId")

# Fields of nearly every element, and types that need no further parsing: the fast path of `Event` reads these.
_COMMON_FIELDS: Final = itemgetter("subscriptionType", "portalId", "occurredAt", "objectId")
_COMMON_TYPES: Final = {
    f"{family}.{kind}": (family, kind)
    for family in ("contact", "company", "deal", "ticket", "product", "line_item", "object")
    for kind in ("creation", "deletion", "restore", "privacyDeletion", "propertyChange")
}


GENERIC_NAME: Final = " generic"  # after the name of an event in that dialect
JOURNAL_NAME: Final = " journal"  # after the name of an event that HubSpot did not push


def event_name(event: "Event") -> str:
    """Return the event's type with its property, and `generic` for that dialect; empty if a part is no name.

    A text that HubSpot uses as no name may be personal: names are stored and shown, other texts are not.
    """
    name = event.property_name or "" if event.kind == "propertyChange" else ""
    if not _TYPE.fullmatch(event.type) or (name and not _PROPERTY.fullmatch(name)):
        return ""
    dialect = GENERIC_NAME if event.subscription_type.startswith("object.") else ""
    return f"{event.type}:{name}{dialect}" if name else f"{event.type}{dialect}"


class Event:
    """One event of HubSpot. Immutable.

    `type` is the same for both dialects: `object.creation` with objectTypeId 0-1 is `contact.creation` too.
    `object_id` is text, as HubSpot recommends. The object of an association change is the one the association
    starts from. `intake` is how the event reached us: push, journal, backfill or replay.
    """

    __slots__ = (
        "_property_name", "intake", "kind", "object_id", "object_type", "occurred_at", "portal_id", "raw",
        "subscription_type",
    )  # fmt: skip

    def __init__(self, raw: RawEvent) -> None:
        """Parse one element.

        Raises:
            MalformedEvent: naming the first invalid field without which the event cannot be used.
        """
        self.raw = raw
        self.intake: Intake = "push"
        try:
            subscription_type, portal_id, occurred_at, object_id = _COMMON_FIELDS(raw)
            event_id = raw.get("eventId", 0)
            family, kind = _COMMON_TYPES[subscription_type]
            if family == "object":
                family = OBJECT_TYPES[raw["objectTypeId"]]
            name = raw["propertyName"] if kind == "propertyChange" else ""
        except (AttributeError, KeyError, TypeError):  # a field is missing or unusual
            self._parse_slow()
            return
        # `type() is`, because isinstance takes True for an int and HubSpot does not.
        usual = type(portal_id) is type(occurred_at) is type(event_id) is type(object_id) is int and type(name) is str
        if (
            not usual
            or not 0 <= occurred_at <= _MAX_BIGINT
            or not 0 < portal_id <= _MAX_BIGINT
            or not 0 < object_id <= _MAX_BIGINT
        ):
            self._parse_slow()
            return
        self.subscription_type = subscription_type
        self.portal_id = portal_id
        self.occurred_at = occurred_at
        self.object_type = family
        self.kind = kind
        self.object_id = str(object_id)
        self._property_name = name or read_text(raw.get("propertyName"))

    def _parse_slow(self) -> None:
        """Parse an element of any shape, field by field.

        Raises:
            MalformedEvent: naming the first invalid field.
        """
        raw = self.raw
        if not isinstance(raw, dict):
            raise MalformedEvent("not_an_object")
        subscription_type = read_text(raw.get("subscriptionType")) or read_text(raw.get("eventType"))
        if not subscription_type or len(subscription_type) > _MAX_TYPE_LENGTH:
            raise MalformedEvent("subscription_type")
        family, kind = _split_type(subscription_type)
        raw = self.raw = _with_integers(raw, kind)
        portal_id, occurred_at = read_id(raw.get("portalId")), read_bigint(raw.get("occurredAt"))
        if portal_id is None:
            raise MalformedEvent("portal_id")
        if occurred_at is None or occurred_at < 0:
            raise MalformedEvent("occurred_at")
        object_id, family = _object_of(raw, family, kind)
        self._property_name = read_text(raw.get("propertyName"))
        if kind == "propertyChange" and self.property_name is None:
            raise MalformedEvent("property_name")
        if kind == "merge":
            self.raw = _with_merge_ids(raw)
        self.subscription_type = subscription_type
        self.portal_id = portal_id
        self.occurred_at = occurred_at
        self.object_type = family
        self.kind = kind
        self.object_id = "" if object_id is None else str(object_id)

    def __repr__(self) -> str:
        """Return ids, type and property name; a text that HubSpot uses as no name may be personal and is left out."""
        if not hasattr(self, "object_id"):  # an error tracker shows the event while its parsing raises
            return "Event()"
        event_type = self.type if _TYPE.fullmatch(self.type) else "?"
        name = self.property_name or ""
        changed = f" property_name={name}" if _PROPERTY.fullmatch(name) else ""
        return (
            f"Event({event_type} object_id={self.object_id} portal_id={self.portal_id} at={self.occurred_at}{changed})"
        )

    @property
    def type(self) -> str:
        """The type that handlers register for, the same for both dialects: `deal.propertyChange`."""
        return f"{self.object_type}.{self.kind}"

    @property
    def event_id(self) -> int | None:
        """HubSpot's id of the change that caused the event. Not unique."""
        return read_bigint(self.raw.get("eventId"))

    @property
    def app_id(self) -> int | None:
        """The id of the subscribed app."""
        return read_bigint(self.raw.get("appId"))

    @property
    def attempt_number(self) -> int:
        """How often HubSpot had tried to deliver the event before; 0 if it does not say."""
        number = read_bigint(self.raw.get("attemptNumber"))
        return 0 if number is None else max(0, number)

    @property
    def property_name(self) -> str | None:
        """The name of the changed property; None for other kinds."""
        return self._property_name

    @property
    def property_value(self) -> str | None:
        """The new value; None if the property was cleared, or if it is sensitive and must be read from the CRM."""
        return None if self.is_sensitive else read_scalar_text(self.raw.get("propertyValue"))

    @property
    def is_sensitive(self) -> bool:
        """Whether the value is not in the event and must be read from the CRM.

        The generic dialect sends a flag, the classic one the text REDACTED. A value that is an array or an object
        counts as withheld too: as absent it would look like a cleared property.
        """
        value = self.raw.get("propertyValue")
        if type(value) is list or type(value) is dict:
            return True
        flag = read_flag(self.raw.get("isSensitive"))
        return value == REDACTED if flag is None else flag

    @property
    def change_source(self) -> str | None:
        """The source of the change, in HubSpot's open vocabulary: CRM_UI, INTEGRATION, IMPORT, ..."""
        return read_text(self.raw.get("changeSource"))

    @property
    def source_id(self) -> str | None:
        """Who made the change, in an open form: `userId:60718293`, or the id of an app."""
        return read_scalar_text(self.raw.get("sourceId"))

    @property
    def merged_ids(self) -> tuple[str, ...]:
        """The ids that a merge retired: the losers, and the primary record if the merge created a new one."""
        if self.kind != "merge":
            return ()
        ids = [self.raw.get("primaryObjectId"), *self.raw["mergedObjectIds"]]
        return tuple(str(i) for i in ids if i is not None and str(i) != self.survivor_id)

    @property
    def survivor_id(self) -> str:
        """The surviving id after a merge; `object_id` for every other kind."""
        if self.kind != "merge":
            return self.object_id
        return str(self.raw.get("newObjectId") or self.raw.get("primaryObjectId") or self.object_id)

    @property
    def association_target(self) -> tuple[str, str] | None:
        """Type and id of the object that an association change leads to; the type is empty if HubSpot does not say."""
        if self.kind != "associationChange":
            return None
        type_id = read_text(self.raw.get("toObjectTypeId"))
        name = (read_text(self.raw.get("associationType")) or "").partition("_TO_")[2]  # CONTACT_TO_COMPANY
        return OBJECT_TYPES.get(type_id or "", type_id) or name.lower(), str(self.raw.get("toObjectId"))

    def concerns(self, object_type: str, object_ids: Collection[str]) -> bool:
        """Return whether an object of this type and with one of these ids occurs anywhere in the event."""
        if self.object_type == object_type and not {self.object_id, self.survivor_id, *self.merged_ids}.isdisjoint(
            object_ids
        ):
            return True
        target = self.association_target
        return target is not None and target[0] in {object_type, ""} and target[1] in object_ids

    def sent(self, name: str) -> Any:
        """Return a field of any type as it was sent, None without it.

        For event keys only: they must stay the same when we read a field in another way.
        """
        return self.raw.get(name)


@lru_cache(maxsize=1024)
def _split_type(subscription_type: str) -> tuple[str, str]:
    """Split "contact.creation" into object type and kind."""
    family, _, kind = subscription_type.partition(".")
    return family, kind


def _with_integers(raw: RawEvent, kind: str) -> RawEvent:
    """Return an element with its integers as numbers, and null for an unreadable `eventId` or `objectId`."""
    changes: RawEvent = {}
    for name in (*_COMMON_INTEGERS, *_KNOWN_INTEGERS) if kind in _KNOWN_KINDS else _COMMON_INTEGERS:
        value = raw.get(name)
        if value is None:
            continue
        number = read_id(value) if name == "objectId" else read_integer(value)
        if type(value) is int and number is not None:
            continue
        if number is not None or name in {"eventId", "objectId"}:
            changes[name] = number
    return {**raw, **changes} if changes else raw


def _with_merge_ids(raw: RawEvent) -> RawEvent:
    """Return a merge with its ids as numbers.

    Raises:
        MalformedEvent: an id is unreadable or no merged id was sent: acting on the rest would redirect other records.
    """
    changes: RawEvent = {"mergedObjectIds": read_ids(raw.get("mergedObjectIds"))}
    for name in _MERGE_IDS:
        if raw.get(name) is not None:
            changes[name] = read_id(raw[name])
    if None in changes.values():
        raise MalformedEvent("merge_ids")
    return {**raw, **changes}


def _object_type(type_id: object) -> str | None:
    """Return the object type with this id in the generic dialect; None if it is unreadable."""
    text = read_text(type_id)
    return OBJECT_TYPES.get(text, text) if text and _OBJECT_TYPE.fullmatch(text) else None


def _object_of(raw: RawEvent, family: str, kind: str) -> tuple[int | None, str]:
    """Return id and type of the object that an event is about; an association change is about the one it starts from.

    Raises:
        MalformedEvent: naming the first invalid field.
    """
    object_id, type_field = raw.get("objectId"), "objectTypeId"
    if kind == "associationChange":
        object_id, type_field = read_id(raw.get("fromObjectId")), "fromObjectTypeId"
        if object_id is None or read_id(raw.get("toObjectId")) is None:
            raise MalformedEvent("association_ends")
    elif object_id is None and kind in _KINDS_WITH_OBJECT:
        raise MalformedEvent("object_id")
    if family == "object":
        family = _object_type(raw.get(type_field)) or family
        if family == "object" and kind in _KINDS_WITH_OBJECT:
            raise MalformedEvent("object_type_id")
    if not _OBJECT_TYPE.fullmatch(family):
        raise MalformedEvent("subscription_type")
    return object_id, family
