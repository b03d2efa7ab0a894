"""Log of events and delivery attempts. Only a 2xx response acknowledges an event.

An event is pending until it is acknowledged or, after the last retry, lost.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum, unique
from http import HTTPStatus

from spokes.simulator.errors import JsonObject


@unique
class DeliveryState(StrEnum):
    """The state of an event."""

    PENDING = "pending"
    ACKNOWLEDGED = "acknowledged"
    LOST = "lost"


@dataclass(slots=True)
class SentEvent:
    """One event to deliver. `element` is its JSON as first sent; `attempts` are the numbers of its attempts."""

    serial: int
    portal_id: int
    element: object
    attempts: list[int] = field(default_factory=list)
    retries: int = 0
    state: DeliveryState = DeliveryState.PENDING
    settled_at_ms: int | None = None

    def wire_element(self) -> object:
        """Return the element for the next attempt: HubSpot increments `attemptNumber`."""
        if isinstance(self.element, dict) and "attemptNumber" in self.element:
            return {**self.element, "attemptNumber": self.retries}
        return self.element


@dataclass(slots=True)
class Attempt:
    """One request. `status` is None without a response; `failure` is then "timeout" or "connection"."""

    number: int
    portal_id: int
    at_ms: int
    serials: list[int]
    status: int | None = None
    failure: str | None = None
    latency_ms: float = 0.0
    answer: bytes = b""

    @property
    def acknowledged(self) -> bool:
        """Whether the response was 2xx."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    def as_json(self) -> JsonObject:
        """The attempt as JSON for the control endpoints."""
        body = asdict(self)
        body["answer"] = self.answer.decode(errors="replace")
        return body


class DeliveryLog:
    """The last `history` events and attempts, and the counts of all events by state."""

    def __init__(self, history: int) -> None:
        self.events: deque[SentEvent] = deque(maxlen=history)
        self.attempts: deque[Attempt] = deque(maxlen=history)
        self.counts = dict.fromkeys(DeliveryState, 0)
        self._serial = 0
        self._number = 0

    def add_event(self, portal_id: int, element: object) -> SentEvent:
        """Add a pending event."""
        self._serial += 1
        event = SentEvent(self._serial, portal_id, element)
        self.events.append(event)
        self.counts[DeliveryState.PENDING] += 1
        return event

    def start_attempt(self, portal_id: int, at_ms: int, events: Iterable[SentEvent]) -> Attempt:
        """Add an attempt to deliver these events."""
        self._number += 1
        attempt = Attempt(self._number, portal_id, at_ms, [])
        for event in events:
            event.attempts.append(attempt.number)
            attempt.serials.append(event.serial)
        self.attempts.append(attempt)
        return attempt

    def finish_event(self, event: SentEvent, state: DeliveryState, at_ms: int) -> None:
        """Record that an event was acknowledged or lost."""
        event.state, event.settled_at_ms = state, at_ms
        self.counts[DeliveryState.PENDING] -= 1
        self.counts[state] += 1

    def summary(self) -> JsonObject:
        """Return the counts of events by state, and of attempts by status or failure."""
        by_outcome: dict[str, int] = {}
        for attempt in self.attempts:
            outcome = attempt.failure or ("in_flight" if attempt.status is None else str(attempt.status))
            by_outcome[outcome] = by_outcome.get(outcome, 0) + 1
        return {"events": dict(self.counts), "attempts": self._number, "attempts_by_end": by_outcome}

    def clear(self) -> None:
        """Remove all events and attempts."""
        self.events.clear()
        self.attempts.clear()
        self.counts = dict.fromkeys(DeliveryState, 0)
