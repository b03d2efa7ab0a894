"""Facts of a run, as plain values. Rule: what HubSpot knows, what Redis holds, what the audit says; no judgement."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.plan import DisruptionKind


@dataclass(frozen=True, slots=True)
class ObservedDisruption:
    """When something was wrong, in epoch ms."""

    kind: DisruptionKind
    started_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a run is judged by.

    Events are named by what they are (`accepted`, `ends`, `may_die`), so that two tellings of one change are one event.
    `told` maps each change that has an unguarded effect to the epoch ms at which it happened, `once` each object that
    is owed one guarded effect to how many it got. `left` counts what must be gone from Redis when all is done.
    `limited` has the epoch ms of each call that HubSpot refused for its limits, beside those refused on purpose.
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
    chain_is_intact: bool = True
    disruptions: tuple[ObservedDisruption, ...] = ()
    unexpected_exits: tuple[str, ...] = ()
    log_errors: tuple[str, ...] = ()  # lines of logs that no trouble excuses
    still_running: tuple[str, ...] = ()
