"""`Run`: what handlers did with the events that a test delivered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from spokes.testing.fake_hosts import HttpCall


class SimulatedRequest(NamedTuple):
    """One request that HubSpot received: method, path, and the status of its response (0: connection broken)."""

    method: str
    path: str
    status: int


@dataclass(slots=True)
class Run:
    """What handlers did with the delivered event, from its first attempt to its last.

    Attributes:
        outcomes: by handler, the outcome of the event: `processed`, `dead`, `retried` ...
        reasons: by handler, the constant that explains the outcome; empty if it needs no explanation.
        writes: what HubSpot stored: plural name of the type, id, and the properties that the call wrote.
        calls: names of the calls of `tools` that handlers made: `contacts.get`, `contacts.update`, `once`.
        requests: the requests that HubSpot received for them; several calls may share one.
        http_calls: the requests that handlers sent with `tools.http`, in their order.
        attempts: how often handlers ran.
        errors: exceptions that handlers raised, one for each failed attempt.
        logs: log lines of worker and handlers: `event`, `level` and fields.
        events: the JSON of the delivered events.
        admission: how many events were `admitted`, `duplicate`, `ignored` (no handler is registered) or `quarantined`.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    writes: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    requests: list[SimulatedRequest] = field(default_factory=list)
    http_calls: list[HttpCall] = field(default_factory=list)
    attempts: int = 0
    errors: list[BaseException] = field(default_factory=list)
    error: BaseException | None = None  # of the last attempt; None if it ended well
    logs: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    admission: Mapping[str, int] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """The outcome of the event: that of its handler, or `ignored`, `duplicate`, `quarantined` if none ran.

        Raises:
            AssertionError: its handlers have different outcomes; `outcomes` has one for each.
        """
        distinct = set(self.outcomes.values()) or {name for name, count in self.admission.items() if count}
        if len(distinct) == 1:
            return next(iter(distinct))
        each = ", ".join(f"{name}: {outcome}" for name, outcome in self.outcomes.items())
        raise AssertionError(f"the event has several outcomes, see run.outcomes ({each or dict(self.admission)})")

    @property
    def reason(self) -> str:
        """The constant that explains the outcome, empty if there is none."""
        return next((reason for reason in self.reasons.values() if reason), "")
