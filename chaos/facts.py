"""Facts of a run, as plain values. Rule: what HubSpot knows, what Redis holds, what the audit says; no judgement."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.plan import Kind


@dataclass(frozen=True, slots=True)
class Disturbance:
    """When something was wrong, in epoch ms."""

    kind: Kind
    began_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a run is judged by.

    Events are named by what they are (`accepted`, `ends`, `may_die`), so that two tellings of one change are one event.
    `told` maps each change that has an unguarded effect to the epoch ms at which it happened, `once` each object that
    is owed one guarded effect to how many it got. `left` counts what must be gone from Redis when all is done.
    `limited` has the epoch ms of each call that HubSpot refused for its limits, beside those refused on purpose.
    """

    not_delivered: tuple[str, ...] = ()
    accepted: frozenset[str] = frozenset()
    ends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    may_die: frozenset[str] = frozenset()
    forged_accepted: int = 0
    told: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    must_be_told: frozenset[str] = frozenset()
    once: Mapping[str, int] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()
    left: Mapping[str, int] = field(default_factory=dict)
    limited: tuple[int, ...] = ()
    chain: bool = True
    disturbances: tuple[Disturbance, ...] = ()
    surprises: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()  # lines of logs that no trouble excuses
    still_running: tuple[str, ...] = ()
