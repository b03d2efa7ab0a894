"""What programs get where an answer holds more than they may see. Rule: names and ids of events, never values."""

from dataclasses import dataclass

from spokes.console.queries.deliveries import DeliveryAnswer, Received
from spokes.console.queries.events import EventAnswer
from spokes.console.queries.objects import Thing
from spokes.console.queries.queue import Waiting
from spokes.console.queries.records import Recorded
from spokes.console.queries.timeline import Timeline
from spokes.core.delivery import Entry
from spokes.queue.dead_letters import DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHead:
    """An event without its values; times are epoch ms."""

    key: str
    attempt: int
    subscription_type: str
    object_type: str
    object_id: str
    property_name: str
    occurred_at: int

    @classmethod
    def of(cls, entry: Entry) -> "EventHead":
        """Read it from an entry of a delivery."""
        event = entry.event
        return cls(
            key=entry.key, attempt=entry.attempt, subscription_type=event.subscription_type,
            object_type=event.object_type, object_id=event.object_id, property_name=event.property_name or "",
            occurred_at=event.occurred_at,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InQueue:
    """A delivery that waits: since when it is due, and whether a worker is at it."""

    delivery_id: str
    portal_id: int
    due_at: int
    in_progress: bool
    events: tuple[EventHead, ...]

    @classmethod
    def of(cls, job: Waiting, *entries: Entry) -> "InQueue":
        """Read it from the queue; `entries` when not all of them are meant."""
        delivery = job.delivery
        heads = tuple(map(EventHead.of, entries or delivery.entries))
        return cls(
            delivery_id=delivery.id, portal_id=delivery.portal_id, due_at=job.due_at, in_progress=job.in_progress,
            events=heads,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter: what died, of what, in which handler, when (epoch ms)."""

    portal_id: int
    delivery_id: str
    cause: str
    handler: str
    died_at: int
    event: EventHead

    @classmethod
    def of(cls, letter: DeadLetter) -> "Letter":
        """Read it from what Redis keeps."""
        return cls(
            portal_id=letter.portal_id, delivery_id=letter.delivery_id, cause=letter.reason, handler=letter.handler,
            died_at=letter.died_at, event=EventHead.of(letter.entry),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OneDelivery:
    """A delivery: how it was received, how many of its events ended how, and whether it waits."""

    id: str
    received: Received | None
    outcomes: dict[str, int]
    waiting: InQueue | None

    @classmethod
    def of(cls, found: DeliveryAnswer) -> "OneDelivery":
        """Read it from what is known."""
        waiting = InQueue.of(found.waiting) if found.waiting else None
        return cls(id=found.id, received=found.received, outcomes=dict(found.outcomes), waiting=waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneEvent:
    """An event through all its attempts; `records` are the newest first."""

    key: str
    state: str
    is_dead: bool
    waiting: InQueue | None
    records: tuple[Recorded, ...]

    @classmethod
    def of(cls, found: EventAnswer) -> "OneEvent":
        """Read it from what is known."""
        waiting = None
        if found.waiting:
            mine = [entry for entry in found.waiting.delivery.entries if entry.key == found.key]
            waiting = InQueue.of(found.waiting, *mine)
        return cls(key=found.key, state=found.state, is_dead=found.is_dead, waiting=waiting, records=found.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimeline:
    """All that is known of an object; `next` asks for older records.

    `truncated`: more objects, ids or writes belong here than are shown. `unread`: not all that waits was read.
    """

    things: tuple[Thing, ...]
    records: tuple[Recorded, ...]
    pending: tuple[InQueue, ...]
    letters: tuple[Letter, ...]
    erased_at: int | None
    next: str | None
    truncated: bool
    unread: bool

    @classmethod
    def of(cls, found: Timeline) -> "OneTimeline":
        """Read it from what is known."""
        return cls(
            things=found.things, records=found.records, erased_at=found.erased_at, next=found.next,
            pending=tuple(InQueue.of(pending.job, pending.entry) for pending in found.pending),
            letters=tuple(map(Letter.of, found.letters)), truncated=found.truncated, unread=found.unread,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Done:
    """How many it was done to."""

    count: int
