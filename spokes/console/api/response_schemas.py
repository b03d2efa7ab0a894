"""Response types. They contain names and ids of events, never property values."""

from dataclasses import dataclass

from spokes.backfill.recovery_report import RecoveryReport
from spokes.console.queries.history.deliveries import DeliveryDetails, DeliverySummary
from spokes.console.queries.history.events import EventDetails, is_of_event
from spokes.console.queries.history.objects import MatchedObject
from spokes.console.queries.history.records import RecordView
from spokes.console.queries.history.timeline import Timeline
from spokes.console.queries.queue import WaitingDelivery
from spokes.core.delivery import Entry
from spokes.gaps.gap import Gap
from spokes.queue.dead_letters import DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSummary:
    """An event without its values; times are epoch ms.

    `handler` is set if the entry is for one of several handlers of the event: `key` then ends with it.
    """

    key: str
    handler: str
    attempt: int
    subscription_type: str
    object_type: str
    object_id: str
    property_name: str
    occurred_at: int

    @classmethod
    def from_entry(cls, entry: Entry) -> "EventSummary":
        """Read an entry of a delivery."""
        event = entry.event
        return cls(
            key=entry.key,
            handler=entry.handler,
            attempt=entry.attempt,
            subscription_type=event.subscription_type,
            object_type=event.object_type,
            object_id=event.object_id,
            property_name=event.property_name or "",
            occurred_at=event.occurred_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedDelivery:
    """A waiting delivery: when it is due, and whether a worker is running it."""

    delivery_id: str
    portal_id: int
    due_at: int
    in_progress: bool
    events: tuple[EventSummary, ...]

    @classmethod
    def from_waiting(cls, job: WaitingDelivery, *entries: Entry) -> "QueuedDelivery":
        """Read a queued delivery; with `entries`, only these of its events are listed."""
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
    """A dead letter: its event, cause and handler; `died_at` is epoch ms.

    `failure` names the error, its place, and what HubSpot said: `error`, `error_at`, `status`, `code`, `property`, ...
    """

    portal_id: int
    delivery_id: str
    cause: str
    handler: str
    died_at: int
    event: EventSummary
    failure: dict[str, object]

    @classmethod
    def from_letter(cls, letter: DeadLetter) -> "DeadLetterView":
        """Read a stored dead letter."""
        return cls(
            portal_id=letter.portal_id,
            delivery_id=letter.delivery_id,
            cause=letter.reason,
            handler=letter.handler,
            died_at=letter.died_at,
            event=EventSummary.from_entry(letter.entry),
            failure=dict(letter.failure),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """A delivery: how it was received, its events by outcome, and its queue entry if it waits."""

    id: str
    received: DeliverySummary | None
    outcomes: dict[str, int]
    waiting: QueuedDelivery | None

    @classmethod
    def from_details(cls, details: DeliveryDetails) -> "DeliveryView":
        """Read the result of the query."""
        waiting = QueuedDelivery.from_waiting(details.waiting) if details.waiting else None
        return cls(id=details.id, received=details.received, outcomes=dict(details.outcomes), waiting=waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An event through all its attempts; `records` are newest first.

    `handlers` has the newest outcome by handler, for an event with several; then `state` is that of one of them.
    """

    key: str
    state: str
    handlers: dict[str, str]
    is_dead: bool
    waiting: QueuedDelivery | None
    records: tuple[RecordView, ...]

    @classmethod
    def from_details(cls, details: EventDetails) -> "EventView":
        """Read the result of the query."""
        waiting = None
        if details.waiting:
            entries = [entry for entry in details.waiting.delivery.entries if is_of_event(entry, details.key)]
            waiting = QueuedDelivery.from_waiting(details.waiting, *entries)
        handlers = {name: outcome for name, outcome in details.handler_states.items() if name}
        return cls(
            key=details.key, state=details.state, handlers=handlers, is_dead=details.is_dead, waiting=waiting,
            records=details.records,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineView:
    """A page of an object's timeline; `next` is the cursor for older records.

    `truncated`: more objects, ids or writes exist than are shown. `incomplete`: not all of queue and stream was read.
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
        """Read the result of the query."""
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
class GapView:
    """A gap; `report` counts its events if a backfill or the journal closed it."""

    gap: Gap
    report: RecoveryReport | None


@dataclass(frozen=True, slots=True)
class ActionResult:
    """How many items the action was applied to."""

    count: int


@dataclass(frozen=True, slots=True)
class QuarantineResult:
    """How many contents the action was applied to, and how many are still unreadable and stay."""

    count: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class Resumption:
    """Whether a portal was resumed (1) or was not paused (0), and what may pause it again."""

    count: int
    note: str


@dataclass(frozen=True, slots=True)
class Disconnection:
    """Whether HubSpot uninstalled the app now; if not, it was not installed there any more."""

    was_installed: bool
