"""Facts of a run, as plain values: the simulator's state, Redis, the audit and the logs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.plan import DisruptionKind


@dataclass(frozen=True, slots=True)
class ObservedDisruption:
    """A disruption that took place, with its start and end (epoch ms)."""

    kind: DisruptionKind
    started_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the invariants are checked against.

    Events are named by type, object, time and value (`accepted`, `outcomes`, `allowed_dead`), so that redeliveries of
    one change are one event; of an event with several handlers, each has an entry with the handler's name.
    `note_times` maps the text of each note that a handler of a city change creates without `once` to the
    times of these notes (epoch ms); `once_counts` maps each object that must get exactly one effect to its number.
    `leftovers` counts the entries that must be gone from Redis at the end. `rate_limited_at_ms` has the time of each
    call that the simulator's rate limit refused; injected 429s are not included.
    """

    undelivered: tuple[str, ...] = ()
    accepted: frozenset[str] = frozenset()
    outcomes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allowed_dead: frozenset[str] = frozenset()
    forged_accepted: int = 0
    note_times: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    expected_notes: frozenset[str] = frozenset()
    once_counts: Mapping[str, int] = field(default_factory=dict)
    wrong_records: tuple[str, ...] = ()
    leftovers: Mapping[str, int] = field(default_factory=dict)
    rate_limited_at_ms: tuple[int, ...] = ()
    other_jobs_lost: int = 0  # of another arq application on the same database
    chain_is_intact: bool = True
    disruptions: tuple[ObservedDisruption, ...] = ()
    marked_portals: tuple[str, ...] = ()  # portals that installed the app, marked without a reason
    foreign_calls: tuple[str, ...] = ()  # calls with another portal's token
    leaked_secrets: tuple[str, ...] = ()
    token_refreshes: int = 0
    envelopes: int = 0  # that Sentry received
    unexpected_exits: tuple[str, ...] = ()
    log_errors: tuple[str, ...] = ()  # log lines that no disruption explains
    still_running: tuple[str, ...] = ()
