"""Sort a batch out: which of its events are to be queued, and what the audit is told of the others. Rule: pure."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypedDict

from msgspec import Struct, to_builtins

from spokes.audit.records import Action, AuditRecord, Outcome, delivery_fields, event_fields
from spokes.core.delivery import new_delivery_id
from spokes.core.events import Event, RawEvent
from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import ParsedBody
from spokes.intake.event_keys import EventKeys

_NO_PORTAL: Final = 0  # an element that is not even readable belongs to none


Element: TypeAlias = RawEvent | Struct  # as it was read: the careful way, or as a usual one; written, both are the same


@dataclass(slots=True)
class ClassifiedDelivery:
    """What a request brought for one portal, after the allow-list: events to queue, and what the head tells of it.

    Made once and never changed; freezing it would triple the price.
    """

    id: str
    portal_id: int
    received_at: int  # epoch ms
    keys: list[str]  # of the events to queue; so the next two
    times: list[int]  # `occurredAt`, epoch ms
    elements: Sequence[Element]
    received_count: int = 0  # elements of the request that belong here
    ignored: dict[str, int] = field(default_factory=dict)  # type -> how many
    records: tuple[AuditRecord, ...] = ()  # of what was quarantined or dropped
    duplicate_count: int = 0

    def without(self, positions: list[int]) -> "ClassifiedDelivery":
        """Return this arrival less the events at `places` (from 1), which are recorded as duplicates instead."""
        known = {place - 1 for place in positions}
        kept = [place for place in range(len(self.keys)) if place not in known]
        return replace(
            self,
            keys=[self.keys[place] for place in kept],
            times=[self.times[place] for place in kept],
            elements=[self.elements[place] for place in kept],
            records=(*self.records, *(self._duplicate_record(place) for place in sorted(known))),
            duplicate_count=self.duplicate_count + len(known),
        )

    def _duplicate_record(self, place: int) -> AuditRecord:
        """Return the record of an event that was already admitted."""
        raw: RawEvent = to_builtins(self.elements[place])
        attempt = raw.get("attemptNumber")
        attempt = attempt if isinstance(attempt, int) else 0
        told = event_fields(Event(raw), Outcome.DUPLICATE, key=self.keys[place], delivery_id=self.id, attempt=attempt)
        return AuditRecord(**told)

    def head(self) -> dict[str, object]:
        """Return the fields of the record that opens the delivery's history."""
        counts = {"received": self.received_count, "admitted": len(self.keys), "duplicate": self.duplicate_count}
        set_aside = self.received_count - len(self.keys) - self.duplicate_count - sum(self.ignored.values())
        return delivery_fields(self.portal_id, self.id, {**counts, "ignored": self.ignored, "set_aside": set_aside})


class Summary(TypedDict):
    """What became of a request's events: the ids of the deliveries they are in, and how many met which fate."""

    deliveries: list[str]
    admitted: int
    duplicate: int
    ignored: int
    quarantined: int


def summary(deliveries: list[ClassifiedDelivery]) -> Summary:
    """Return what became of the events of one request, once they are admitted."""
    admitted = duplicate = ignored = received = 0
    for arrival in deliveries:
        admitted += len(arrival.keys)
        duplicate += arrival.duplicate_count
        ignored += sum(arrival.ignored.values())
        received += arrival.received_count
    return {
        "deliveries": [arrival.id for arrival in deliveries],
        "admitted": admitted,
        "duplicate": duplicate,
        "ignored": ignored,
        "quarantined": received - admitted - duplicate - ignored,
    }


def classify(
    body: ParsedBody, *, allow_list: AllowList, keys: EventKeys, portal_ids: Collection[int], now_ms: int
) -> list[ClassifiedDelivery]:
    """Return one arrival for each portal in the batch; HubSpot sends one portal's events at a time, as far as is known.

    Args:
        batch: what the request's body held.
        allow_list: decides which events are wanted.
        keys: makes event keys.
        portal_ids: the portals we serve; empty for all.
        now_ms: when the request came, in epoch milliseconds.
    """
    portals: dict[int, list[Event]] = {}
    for event in body.events:
        portals.setdefault(event.portal_id, []).append(event)
    if body.malformed and not portals:
        portals[_NO_PORTAL] = []
    arrivals = []
    for portal_id, events in portals.items():
        served = not portal_ids or portal_id in portal_ids
        arrivals.append(
            _classify_portal(portal_id, events, allow_list, keys, now_ms)
            if served
            else _unserved_portal(portal_id, events, now_ms)
        )
    return _with_malformed(arrivals, body)


def _classify_portal(
    portal_id: int, events: list[Event], allow_list: AllowList, keys: EventKeys, now_ms: int
) -> ClassifiedDelivery:
    wanted = [event for event in events if allow_list.allows(event)]
    ignored = Counter(event.subscription_type for event in events if not allow_list.allows(event))
    arrival = ClassifiedDelivery(
        new_delivery_id(portal_id),
        portal_id,
        now_ms,
        keys=[keys(event) for event in wanted],
        times=[event.occurred_at for event in wanted],
        elements=[event.raw for event in wanted],
        received_count=len(events),
        ignored=dict(ignored),
    )
    return without_repeats(arrival)


def without_repeats(delivery: ClassifiedDelivery) -> ClassifiedDelivery:
    """Return an arrival less the events that tell of what one before them told."""
    keys = delivery.keys
    if len(set(keys)) == len(keys):
        return delivery
    seen: set[str] = set()
    repeated = []
    for place, key in enumerate(keys, start=1):
        if key in seen:
            repeated.append(place)
        seen.add(key)
    return delivery.without(repeated)


def _unserved_portal(portal_id: int, events: list[Event], now_ms: int) -> ClassifiedDelivery:
    """Events of a portal we do not serve: one record for all of them, so that a stranger cannot fill the audit."""
    arrival = ClassifiedDelivery(new_delivery_id(portal_id), portal_id, now_ms, [], [], [], len(events))
    return replace(arrival, records=(_quarantine_record(arrival, "portal_not_served", {"events": len(events)}),))


def _with_malformed(deliveries: list[ClassifiedDelivery], body: ParsedBody) -> list[ClassifiedDelivery]:
    """Let the first arrival tell of the elements that are no events: of the first few each, of the rest together."""
    if not body.malformed:
        return deliveries
    first, *others = deliveries
    records = [_quarantine_record(first, one.reason, {"place": one.position}, one.event_id) for one in body.malformed]
    more = body.unlisted.total()
    if more:
        records.append(_quarantine_record(first, "and_more", {"events": more, "reasons": dict(body.unlisted)}))
    received = first.received_count + len(body.malformed) + more
    return [replace(first, received_count=received, records=(*first.records, *records)), *others]


def _quarantine_record(
    delivery: ClassifiedDelivery, reason: str, detail: Mapping[str, object], event_id: int | None = None
) -> AuditRecord:
    return AuditRecord(
        action=Action.EVENT,
        outcome=Outcome.QUARANTINED,
        reason=reason,
        portal_id=delivery.portal_id,
        delivery_id=delivery.id,
        event_id=event_id,
        detail=detail,
    )
