"""Sort a batch out: which of its events are to be queued, and what the audit is told of the others. Rule: pure."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypedDict

from msgspec import Struct, to_builtins

from spokes.audit.records import Action, AuditRecord, Outcome, event_fields, head_fields
from spokes.core.delivery import new_id
from spokes.core.events import Event, Raw
from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import Batch
from spokes.intake.event_keys import EventKeys

_NO_PORTAL: Final = 0  # an element that is not even readable belongs to none


Element: TypeAlias = Raw | Struct  # as it was read: the careful way, or as a usual one; written, both are the same


@dataclass(slots=True)
class Arrival:
    """What a request brought for one portal, after the allow-list: events to queue, and what the head tells of it.

    Made once and never changed; freezing it would triple the price.
    """

    id: str
    portal_id: int
    received_at: int  # epoch ms
    keys: list[str]  # of the events to queue; so the next two
    times: list[int]  # `occurredAt`, epoch ms
    elements: Sequence[Element]
    received: int = 0  # elements of the request that belong here
    ignored: dict[str, int] = field(default_factory=dict)  # type -> how many
    records: tuple[AuditRecord, ...] = ()  # of what was quarantined or dropped
    duplicates: int = 0

    def without(self, places: list[int]) -> "Arrival":
        """Return this arrival less the events at `places` (from 1), which are recorded as duplicates instead."""
        known = {place - 1 for place in places}
        kept = [place for place in range(len(self.keys)) if place not in known]
        return replace(
            self,
            keys=[self.keys[place] for place in kept],
            times=[self.times[place] for place in kept],
            elements=[self.elements[place] for place in kept],
            records=(*self.records, *(self._duplicate(place) for place in sorted(known))),
            duplicates=self.duplicates + len(known),
        )

    def _duplicate(self, place: int) -> AuditRecord:
        """Return the record of an event that was already admitted."""
        raw: Raw = to_builtins(self.elements[place])
        attempt = raw.get("attemptNumber")
        attempt = attempt if isinstance(attempt, int) else 0
        told = event_fields(Event(raw), Outcome.DUPLICATE, key=self.keys[place], delivery_id=self.id, attempt=attempt)
        return AuditRecord(**told)

    def head(self) -> dict[str, object]:
        """Return the fields of the record that opens the delivery's history."""
        counts = {"received": self.received, "admitted": len(self.keys), "duplicate": self.duplicates}
        set_aside = self.received - len(self.keys) - self.duplicates - sum(self.ignored.values())
        return head_fields(self.portal_id, self.id, {**counts, "ignored": self.ignored, "set_aside": set_aside})


class Summary(TypedDict):
    """What became of a request's events: the ids of the deliveries they are in, and how many met which fate."""

    deliveries: list[str]
    admitted: int
    duplicate: int
    ignored: int
    quarantined: int


def summary(arrivals: list[Arrival]) -> Summary:
    """Return what became of the events of one request, once they are admitted."""
    admitted = duplicate = ignored = received = 0
    for arrival in arrivals:
        admitted += len(arrival.keys)
        duplicate += arrival.duplicates
        ignored += sum(arrival.ignored.values())
        received += arrival.received
    return {
        "deliveries": [arrival.id for arrival in arrivals],
        "admitted": admitted,
        "duplicate": duplicate,
        "ignored": ignored,
        "quarantined": received - admitted - duplicate - ignored,
    }


def sort_out(
    batch: Batch, *, allow_list: AllowList, keys: EventKeys, portal_ids: Collection[int], now_ms: int
) -> list[Arrival]:
    """Return one arrival for each portal in the batch; HubSpot sends one portal's events at a time, as far as is known.

    Args:
        batch: what the request's body held.
        allow_list: decides which events are wanted.
        keys: makes event keys.
        portal_ids: the portals we serve; empty for all.
        now_ms: when the request came, in epoch milliseconds.
    """
    portals: dict[int, list[Event]] = {}
    for event in batch.events:
        portals.setdefault(event.portal_id, []).append(event)
    if batch.quarantined and not portals:
        portals[_NO_PORTAL] = []
    arrivals = []
    for portal_id, events in portals.items():
        served = not portal_ids or portal_id in portal_ids
        arrivals.append(
            _arrival(portal_id, events, allow_list, keys, now_ms) if served else _unserved(portal_id, events, now_ms)
        )
    return _with_quarantined(arrivals, batch)


def _arrival(portal_id: int, events: list[Event], allow_list: AllowList, keys: EventKeys, now_ms: int) -> Arrival:
    wanted = [event for event in events if allow_list.wants(event)]
    ignored = Counter(event.subscription_type for event in events if not allow_list.wants(event))
    arrival = Arrival(
        new_id(portal_id),
        portal_id,
        now_ms,
        keys=[keys(event) for event in wanted],
        times=[event.occurred_at for event in wanted],
        elements=[event.raw for event in wanted],
        received=len(events),
        ignored=dict(ignored),
    )
    return without_repeated(arrival)


def without_repeated(arrival: Arrival) -> Arrival:
    """Return an arrival less the events that tell of what one before them told."""
    keys = arrival.keys
    if len(set(keys)) == len(keys):
        return arrival
    seen: set[str] = set()
    repeated = []
    for place, key in enumerate(keys, start=1):
        if key in seen:
            repeated.append(place)
        seen.add(key)
    return arrival.without(repeated)


def _unserved(portal_id: int, events: list[Event], now_ms: int) -> Arrival:
    """Events of a portal we do not serve: one record for all of them, so that a stranger cannot fill the audit."""
    arrival = Arrival(new_id(portal_id), portal_id, now_ms, [], [], [], len(events))
    return replace(arrival, records=(_quarantined(arrival, "portal_not_served", {"events": len(events)}),))


def _with_quarantined(arrivals: list[Arrival], batch: Batch) -> list[Arrival]:
    """Let the first arrival tell of the elements that are no events: of the first few each, of the rest together."""
    if not batch.quarantined:
        return arrivals
    first, *others = arrivals
    records = [_quarantined(first, one.reason, {"place": one.place}, one.event_id) for one in batch.quarantined]
    more = batch.more.total()
    if more:
        records.append(_quarantined(first, "and_more", {"events": more, "reasons": dict(batch.more)}))
    received = first.received + len(batch.quarantined) + more
    return [replace(first, received=received, records=(*first.records, *records)), *others]


def _quarantined(
    arrival: Arrival, reason: str, detail: Mapping[str, object], event_id: int | None = None
) -> AuditRecord:
    return AuditRecord(
        action=Action.EVENT,
        outcome=Outcome.QUARANTINED,
        reason=reason,
        portal_id=arrival.portal_id,
        delivery_id=arrival.id,
        event_id=event_id,
        detail=detail,
    )
