"""Sort a batch out: which of its events are to be queued, and what the audit is told of the others. Rule: pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from audit.records import Action, AuditRecord, Outcome, event_fields
from core.deliveries import Entry, new_id
from core.event_keys import EventKeys
from core.events import Event
from ingest.allow_list import AllowList
from ingest.batch import Batch

_NO_PORTAL: Final = 0  # an element that is not even readable belongs to none


@dataclass(slots=True)
class Arrival:
    """What a request brought for one portal, after the allow-list: events to queue, and what the head tells of it.

    Made once and never changed; freezing it would triple the price.
    """

    id: str
    portal_id: int
    received_at: int  # epoch ms
    entries: tuple[Entry, ...]
    received: int = 0  # elements of the request that belong here
    ignored: dict[str, int] = field(default_factory=dict)  # type -> how many
    records: tuple[AuditRecord, ...] = ()  # of what was quarantined or dropped
    duplicates: int = 0

    def without(self, places: list[int]) -> "Arrival":
        """Return this arrival less the events at `places` (from 1), which are recorded as duplicates instead."""
        known = {place - 1 for place in places}
        dropped = [entry for place, entry in enumerate(self.entries) if place in known]
        return replace(
            self,
            entries=tuple(entry for place, entry in enumerate(self.entries) if place not in known),
            records=(*self.records, *(self.duplicate(entry) for entry in dropped)),
            duplicates=self.duplicates + len(dropped),
        )

    def duplicate(self, entry: Entry) -> AuditRecord:
        """Return the record of an event that was already admitted."""
        attempt = entry.raw.get("attemptNumber")
        attempt = attempt if isinstance(attempt, int) else 0
        told = event_fields(entry.event, Outcome.DUPLICATE, key=entry.key, delivery_id=self.id, attempt=attempt)
        return AuditRecord(**told)

    def head(self) -> AuditRecord:
        """Return the record that opens the delivery's history."""
        counts = {"received": self.received, "admitted": len(self.entries), "duplicate": self.duplicates}
        set_aside = self.received - len(self.entries) - self.duplicates - sum(self.ignored.values())
        return AuditRecord(
            action=Action.DELIVERY_RECEIVED,
            portal_id=self.portal_id,
            delivery_id=self.id,
            detail={**counts, "ignored": self.ignored, "set_aside": set_aside},
        )


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
    ignored: dict[str, int] = {}
    wanted: list[Entry] = []
    wants = allow_list.wants
    for event in events:
        if wants(event):
            wanted.append(Entry(keys(event), 0, event.raw))
        else:
            ignored[event.subscription_type] = ignored.get(event.subscription_type, 0) + 1
    return without_repeated(Arrival(new_id(portal_id), portal_id, now_ms, tuple(wanted), len(events), ignored))


def without_repeated(arrival: Arrival) -> Arrival:
    """Return an arrival less the events that tell of what one before them told."""
    keys = [entry.key for entry in arrival.entries]
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
    arrival = Arrival(new_id(portal_id), portal_id, now_ms, (), len(events))
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
