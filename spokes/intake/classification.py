"""Decide which events of a body are queued, and what the audit records about the others."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypedDict

from msgspec import Struct

from spokes.audit.records import Action, AuditRecord, Outcome, delivery_fields
from spokes.core.delivery import new_delivery_id
from spokes.core.events import Event, Intake, RawEvent
from spokes.core.priority import PRIORITIES, Priority, priority_of
from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import ParsedBody
from spokes.intake.event_keys import EventKeys, FurtherKeys
from spokes.queue.quarantine import NO_PORTAL, NewContent

Element: TypeAlias = RawEvent | Struct  # as parsed by `body_parser` or by `fast_path`; both serialise to the same JSON


class AdmissionEvent(Struct, gc=False):
    """One event to queue: its keys, its `occurredAt` (epoch ms), and the element as HubSpot sent it."""

    key: str
    occurred_at: int
    element: Element
    further: FurtherKeys | None = None


@dataclass(slots=True)
class ClassifiedDelivery:
    """The part of a request that belongs to one portal and priority class: events to queue, and counts for its record.

    Only the id ever changes, to that of the delivery which is stored (see `folding`); `frozen=True` would triple the
    cost of making one.
    """

    id: str
    portal_id: int
    received_at: int  # epoch ms
    events: list[AdmissionEvent]
    received_count: int = 0  # elements of the request that belong to this portal
    ignored: dict[str, int] = field(default_factory=dict)  # type -> number of events
    records: tuple[AuditRecord, ...] = ()  # of quarantined elements
    duplicates: tuple[AdmissionEvent, ...] = ()  # known events that were dropped and are to be recorded
    duplicate_count: int = 0
    times: int = 1  # how often the request has come since its events were admitted
    malformed: tuple[NewContent, ...] = ()  # elements to keep in quarantine
    priority: Priority = "interactive"
    request_ids: tuple[str, ...] = ()  # of the requests in a delivery of several
    intake: Intake = "push"
    origin: str = ""  # where the events of another intake come from: an offset of the journal, the id of a backfill

    def without(self, indexes: list[int]) -> "ClassifiedDelivery":
        """Return this delivery less the events at `indexes`, which become duplicates."""
        known = set(indexes)
        return replace(
            self,
            events=[event for index, event in enumerate(self.events) if index not in known],
            duplicates=(*self.duplicates, *(self.events[index] for index in sorted(known))),
            duplicate_count=self.duplicate_count + len(known),
        )

    def unrecorded(self) -> "ClassifiedDelivery":
        """Return this delivery without what would be recorded of its quarantined elements and known events."""
        return replace(self, records=(), duplicates=())

    def head(self) -> dict[str, object]:
        """Return the fields of the record that opens the delivery's history."""
        counts = {"received": self.received_count, "admitted": len(self.events), "duplicate": self.duplicate_count}
        quarantined = self.received_count - len(self.events) - self.duplicate_count - sum(self.ignored.values())
        detail = {**counts, "ignored": self.ignored, "set_aside": quarantined}
        if self.request_ids:
            detail["requests"] = self.request_ids
        if self.intake != "push":
            detail["intake"] = self.intake
        if self.origin:
            detail["origin"] = self.origin
        return delivery_fields(self.portal_id, self.id, detail)


class Summary(TypedDict):
    """The body of a 202 response: ids of the request's deliveries, and its number of events by result."""

    deliveries: list[str]
    admitted: int
    duplicate: int
    ignored: int
    quarantined: int


def summary(deliveries: list[ClassifiedDelivery]) -> Summary:
    """Return the summary of one request, whose `deliveries` have been admitted."""
    admitted = duplicate = ignored = received = 0
    for delivery in deliveries:
        admitted += len(delivery.events)
        duplicate += delivery.duplicate_count
        ignored += sum(delivery.ignored.values())
        received += delivery.received_count
    return {
        "deliveries": [delivery.id for delivery in deliveries],
        "admitted": admitted,
        "duplicate": duplicate,
        "ignored": ignored,
        "quarantined": received - admitted - duplicate - ignored,
    }


def classify(
    body: ParsedBody,
    *,
    allow_list: AllowList,
    keys: EventKeys,
    portal_ids: Collection[int],
    now_ms: int,
    priority: Priority | None = None,
    intake: Intake = "push",
    origin: str = "",
) -> list[ClassifiedDelivery]:
    """Return one delivery for each portal and priority class in a body, of each portal the interactive one first.

    As far as we know, HubSpot sends events of one portal at a time. It mixes changes of users and of imports.

    Args:
        body: the parsed body of a request.
        allow_list: decides which events are queued.
        keys: makes event keys.
        portal_ids: the portals we serve; empty for all.
        now_ms: when the request arrived, in epoch ms.
        priority: the class of all events, for a source without waiting users; None: as each event's changeSource says.
        intake: how the events reached us.
        origin: see `ClassifiedDelivery`.
    """
    portals: dict[int, list[Event]] = {}
    for event in body.events:
        portals.setdefault(event.portal_id, []).append(event)
    if body.malformed and not portals:
        portals[NO_PORTAL] = []
    deliveries = []
    for portal_id, events in portals.items():
        if portal_ids and portal_id not in portal_ids:
            deliveries.append(_unserved_portal(portal_id, events, now_ms))
            continue
        for own, group in _by_priority(events, priority).items():
            deliveries.append(_classify_group(portal_id, own, group, allow_list=allow_list, keys=keys, now_ms=now_ms))
    deliveries = _with_malformed(deliveries, body, keys, portal_ids)
    return deliveries if intake == "push" else [replace(each, intake=intake, origin=origin) for each in deliveries]


def _by_priority(events: list[Event], priority: Priority | None) -> dict[Priority, list[Event]]:
    """Return the events of each priority class that has any, in the order in which the classes are served.

    Args:
        events: of one portal; none if a body has malformed elements only, which also need a delivery.
        priority: the class of all events, None to decide for each.
    """
    if priority or not events:
        return {priority or "interactive": events}
    groups: dict[Priority, list[Event]] = {}
    for event in events:
        groups.setdefault(priority_of(event.change_source), []).append(event)
    return {own: groups[own] for own in PRIORITIES if own in groups}


def _classify_group(
    portal_id: int, priority: Priority, events: list[Event], *, allow_list: AllowList, keys: EventKeys, now_ms: int
) -> ClassifiedDelivery:
    allow_list = allow_list.for_portal(portal_id)
    allowed = [event for event in events if allow_list.allows(event)]
    ignored: dict[str, int] = {}
    if len(allowed) < len(events):
        ignored = Counter(event.subscription_type for event in events if not allow_list.allows(event))
    delivery = ClassifiedDelivery(
        new_delivery_id(portal_id),
        portal_id,
        now_ms,
        events=[AdmissionEvent(keys(event), event.occurred_at, event.raw, keys.further(event)) for event in allowed],
        received_count=len(events),
        ignored=dict(ignored),
        priority=priority,
    )
    return without_repeats(delivery)


def without_repeats(delivery: ClassifiedDelivery) -> ClassifiedDelivery:
    """Return a delivery less the events whose key an earlier event of it has."""
    events = delivery.events
    if len({event.key for event in events}) == len(events):
        return delivery
    seen: set[str] = set()
    repeats = []
    for index, event in enumerate(events):
        if event.key in seen:
            repeats.append(index)
        seen.add(event.key)
    return delivery.without(repeats)


def _unserved_portal(portal_id: int, events: list[Event], now_ms: int) -> ClassifiedDelivery:
    """Return the delivery of an unserved portal: one record for all its events, so that they cannot fill the audit."""
    delivery = ClassifiedDelivery(new_delivery_id(portal_id), portal_id, now_ms, [], len(events))
    return replace(delivery, records=(_quarantine_record(delivery, "portal_not_served", {"events": len(events)}),))


def _with_malformed(
    deliveries: list[ClassifiedDelivery], body: ParsedBody, keys: EventKeys, portal_ids: Collection[int]
) -> list[ClassifiedDelivery]:
    """Add the malformed elements to the first delivery, with a record for each listed one and one for the rest."""
    if not body.malformed:
        return deliveries
    first, *others = deliveries
    records, contents = [], []
    for element in body.malformed:
        key, detail = keys.for_content(element.content), {"place": element.position}
        records.append(_quarantine_record(first, element.reason, detail, key=key, event_id=element.event_id))
        portal_id = first.portal_id if element.portal_id is None else element.portal_id
        is_served = portal_id > 0 and (not portal_ids or portal_id in portal_ids)
        contents.append(NewContent(portal_id if is_served else NO_PORTAL, key, element.reason, element.content))
    unlisted = body.unlisted.total()
    if unlisted:
        records.append(_quarantine_record(first, "and_more", {"events": unlisted, "reasons": dict(body.unlisted)}))
    received_count = first.received_count + len(body.malformed) + unlisted
    first = replace(first, received_count=received_count, records=(*first.records, *records), malformed=tuple(contents))
    return [first, *others]


def _quarantine_record(
    delivery: ClassifiedDelivery,
    reason: str,
    detail: Mapping[str, object],
    *,
    key: str = "",
    event_id: int | None = None,
) -> AuditRecord:
    return AuditRecord(
        action=Action.EVENT,
        outcome=Outcome.QUARANTINED,
        reason=reason,
        portal_id=delivery.portal_id,
        delivery_id=delivery.id,
        event_key=key,
        event_id=event_id,
        detail=detail,
    )
