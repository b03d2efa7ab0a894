"""What was sent and what became of it. Rule: it is the truth, so nothing is inferred; an event is acknowledged by 2xx.

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
    """What has become of an event."""

    PENDING = "pending"
    ACKNOWLEDGED = "acknowledged"
    LOST = "lost"


@dataclass(slots=True)
class SentEvent:
    """One event on its way. `element` is its JSON as first sent; `attempts` are numbers of attempts that carried it."""

    serial: int
    portal_id: int
    element: object
    attempts: list[int] = field(default_factory=list)
    retries: int = 0
    state: DeliveryState = DeliveryState.PENDING
    settled_at_ms: int | None = None

    def wire_element(self) -> object:
        """The element as the next attempt carries it: HubSpot counts up `attemptNumber`."""
        if isinstance(self.element, dict) and "attemptNumber" in self.element:
            return {**self.element, "attemptNumber": self.retries}
        return self.element


@dataclass(slots=True)
class Attempt:
    """One request. `status` is the answer's, None when there was none; `failure` says why: timeout or connection."""

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
        """Whether HubSpot counts it as delivered."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    def as_json(self) -> JsonObject:
        """The same for the control surface."""
        body = asdict(self)
        body["answer"] = self.answer.decode(errors="replace")
        return body


class DeliveryLog:
    """Every event and every attempt, the last `history` of either, and counts of them all."""

    def __init__(self, history: int) -> None:
        self.events: deque[SentEvent] = deque(maxlen=history)
        self.attempts: deque[Attempt] = deque(maxlen=history)
        self.counts = dict.fromkeys(DeliveryState, 0)
        self._serial = 0
        self._number = 0

    def add_event(self, portal_id: int, element: object) -> SentEvent:
        """Take up an event that is to be delivered."""
        self._serial += 1
        event = SentEvent(self._serial, portal_id, element)
        self.events.append(event)
        self.counts[DeliveryState.PENDING] += 1
        return event

    def start_attempt(self, portal_id: int, at_ms: int, events: Iterable[SentEvent]) -> Attempt:
        """Take up an attempt to deliver these."""
        self._number += 1
        attempt = Attempt(self._number, portal_id, at_ms, [])
        for event in events:
            event.attempts.append(attempt.number)
            attempt.serials.append(event.serial)
        self.attempts.append(attempt)
        return attempt

    def finish_event(self, event: SentEvent, state: DeliveryState, at_ms: int) -> None:
        """An event was acknowledged or lost."""
        event.state, event.settled_at_ms = state, at_ms
        self.counts[DeliveryState.PENDING] -= 1
        self.counts[state] += 1

    def events_in_state(self, state: DeliveryState) -> list[SentEvent]:
        """The events of one state."""
        return [event for event in self.events if event.state is state]

    def summary(self) -> JsonObject:
        """Counts of events by state, and of attempts by what they ended with."""
        ended: dict[str, int] = {}
        for attempt in self.attempts:
            end = attempt.failure or ("in_flight" if attempt.status is None else str(attempt.status))
            ended[end] = ended.get(end, 0) + 1
        return {"events": dict(self.counts), "attempts": self._number, "attempts_by_end": ended}

    def clear(self) -> None:
        """Forget everything."""
        self.events.clear()
        self.attempts.clear()
        self.counts = dict.fromkeys(DeliveryState, 0)
