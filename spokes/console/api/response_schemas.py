"""What programs get where an answer holds more than they may see. Rule: names and ids of events, never values."""

from dataclasses import dataclass

from spokes.console.queries.deliveries import DeliveryDetails, DeliverySummary
from spokes.console.queries.events import EventDetails
from spokes.console.queries.objects import MatchedObject
from spokes.console.queries.queue import WaitingDelivery
from spokes.console.queries.records import RecordView
from spokes.console.queries.timeline import Timeline
from spokes.core.delivery import Entry
from spokes.queue.dead_letters import DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSummary:
    """An event without its values; times are epoch ms."""

    key: str
    attempt: int
    subscription_type: str
    object_type: str
    object_id: str
    property_name: str
    occurred_at: int

    @classmethod
    def from_entry(cls, entry: Entry) -> "EventSummary":
        """Read it from an entry of a delivery."""
        event = entry.event
        return cls(
            key=entry.key,
            attempt=entry.attempt,
            subscription_type=event.subscription_type,
            object_type=event.object_type,
            object_id=event.object_id,
            property_name=event.property_name or "",
            occurred_at=event.occurred_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedDelivery:
    """A delivery that waits: since when it is due, and whether a worker is at it."""

    delivery_id: str
    portal_id: int
    due_at: int
    in_progress: bool
    events: tuple[EventSummary, ...]

    @classmethod
    def from_waiting(cls, job: WaitingDelivery, *entries: Entry) -> "QueuedDelivery":
        """Read it from the queue; `entries` when not all of them are meant."""
        delivery = job.delivery
        heads = tuple(map(EventSummary.from_entry, entries or delivery.entries))
        return cls(
            delivery_id=delivery.id,
            portal_id=delivery.portal_id,
            due_at=job.due_at,
            in_progress=job.in_progress,
            events=heads,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterView:
    """A dead letter: what died, of what, in which handler, when (epoch ms)."""

    portal_id: int
    delivery_id: str
    cause: str
    handler: str
    died_at: int
    event: EventSummary

    @classmethod
    def from_letter(cls, letter: DeadLetter) -> "DeadLetterView":
        """Read it from what Redis keeps."""
        return cls(
            portal_id=letter.portal_id,
            delivery_id=letter.delivery_id,
            cause=letter.reason,
            handler=letter.handler,
            died_at=letter.died_at,
            event=EventSummary.from_entry(letter.entry),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """A delivery: how it was received, how many of its events ended how, and whether it waits."""

    id: str
    received: DeliverySummary | None
    outcomes: dict[str, int]
    waiting: QueuedDelivery | None

    @classmethod
    def from_details(cls, details: DeliveryDetails) -> "DeliveryView":
        """Read it from what is known."""
        waiting = QueuedDelivery.from_waiting(details.waiting) if details.waiting else None
        return cls(id=details.id, received=details.received, outcomes=dict(details.outcomes), waiting=waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An event through all its attempts; `records` are the newest first."""

    key: str
    state: str
    is_dead: bool
    waiting: QueuedDelivery | None
    records: tuple[RecordView, ...]

    @classmethod
    def from_details(cls, details: EventDetails) -> "EventView":
        """Read it from what is known."""
        waiting = None
        if details.waiting:
            mine = [entry for entry in details.waiting.delivery.entries if entry.key == details.key]
            waiting = QueuedDelivery.from_waiting(details.waiting, *mine)
        return cls(
            key=details.key, state=details.state, is_dead=details.is_dead, waiting=waiting, records=details.records
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineView:
    """All that is known of an object; `next` asks for older records.

    `truncated`: more objects, ids or writes belong here than are shown. `unread`: not all that waits was read.
    """

    objects: tuple[MatchedObject, ...]
    records: tuple[RecordView, ...]
    pending: tuple[QueuedDelivery, ...]
    letters: tuple[DeadLetterView, ...]
    erased_at: int | None
    next: str | None
    truncated: bool
    incomplete: bool

    @classmethod
    def from_timeline(cls, timeline: Timeline) -> "TimelineView":
        """Read it from what is known."""
        return cls(
            objects=timeline.objects,
            records=timeline.records,
            erased_at=timeline.erased_at,
            next=timeline.next,
            pending=tuple(QueuedDelivery.from_waiting(pending.job, pending.entry) for pending in timeline.pending),
            letters=tuple(map(DeadLetterView.from_letter, timeline.letters)),
            truncated=timeline.truncated,
            incomplete=timeline.incomplete,
        )


@dataclass(frozen=True, slots=True)
class ActionResult:
    """How many it was done to."""

    count: int
