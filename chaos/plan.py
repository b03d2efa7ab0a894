"""What goes wrong, and when. Rule: pure; a plan follows from its seed and its length alone.

Every kind of trouble comes once before any comes again, so that a short run meets as much as a long one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from random import Random
from typing import Final


@unique
class DisruptionKind(StrEnum):
    """A way in which something goes wrong."""

    WORKER_KILLED = "a worker is killed"
    WORKER_ENDED = "a worker is told to end"
    WORKER_FROZEN = "a worker is frozen until its leases have run out"
    WORKER_CLOCK = "a worker's clock is wrong, or jumps"
    WEB_KILLED = "web is killed"
    WEB_REPLACED = "web is replaced"
    VALKEY_KILLED = "Valkey is killed"
    VALKEY_RESTARTED = "Valkey is restarted"
    VALKEY_FROZEN = "Valkey is frozen"
    DISK_FULL = "the disk under the append-only file is full"
    STORE_RESTARTED = "PostgreSQL is restarted"
    STORE_KILLED = "PostgreSQL is killed"
    CRM_DOWN = "HubSpot answers 503"
    CRM_CUT = "HubSpot cuts connections after it did what was asked"
    CRM_LIMITS = "HubSpot answers 429"
    CRM_SLOW = "HubSpot answers long after anybody waits"
    HUBSPOT_CLOCK = "HubSpot's clock jumps"
    LINK_CUT = "connections are cut"
    LINK_SLOW = "a connection is slow"
    LINK_STALLED = "a connection is open and carries nothing"
    TWO_VERSIONS = "two versions run side by side"


# What may cut an effect off from its record, and so be the reason that it happens again.
CAUSES_REPEATS: Final = frozenset(DisruptionKind) - {
    DisruptionKind.WORKER_ENDED,
    DisruptionKind.WORKER_CLOCK,
    DisruptionKind.WEB_KILLED,
    DisruptionKind.WEB_REPLACED,
    DisruptionKind.STORE_RESTARTED,
    DisruptionKind.STORE_KILLED,
    DisruptionKind.HUBSPOT_CLOCK,
    DisruptionKind.TWO_VERSIONS,
    DisruptionKind.CRM_LIMITS,
}


# What may carry a call to HubSpot later than whoever made it has waited, or lose the places that calls have taken.
DELAYS_CALLS: Final = frozenset(
    {DisruptionKind.WORKER_FROZEN, DisruptionKind.LINK_STALLED, DisruptionKind.LINK_SLOW, DisruptionKind.VALKEY_KILLED}
)


@dataclass(frozen=True, slots=True)
class Disruption:
    """One thing that goes wrong: when, for how long (seconds from the start), and dice for its details."""

    kind: DisruptionKind
    starts_at_s: float
    duration_s: float
    seed: int

    def rng(self) -> Random:
        """Return dice that fall alike whenever this trouble comes."""
        return Random(self.seed)


_START_GAP_S: Final = (0.2, 2.0)  # between the beginnings of two troubles
_DURATION_S: Final = (0.3, 4.0)
_FREEZE_S: Final = (9.0, 12.0)  # longer than a lease
_QUIET_S: Final = 2.0  # at the beginning: what is repeated then has no excuse


def plan(seed: int, seconds: float, kinds: Sequence[DisruptionKind] = tuple(DisruptionKind)) -> list[Disruption]:
    """Return the troubles of a run that lasts `seconds`, in their order; none begins in its last second."""
    rng = Random(f"{seed} plan")
    troubles: list[Disruption] = []
    at_s = _QUIET_S
    for kind in _shuffled(kinds, rng):
        at_s += rng.uniform(*_START_GAP_S)
        lasts_s = rng.uniform(*(_FREEZE_S if kind is DisruptionKind.WORKER_FROZEN else _DURATION_S))
        if at_s > seconds - 1:
            return troubles
        troubles.append(Disruption(kind, round(at_s, 3), round(lasts_s, 3), rng.getrandbits(32)))
    raise AssertionError("kinds never end")


def _shuffled(kinds: Sequence[DisruptionKind], rng: Random) -> Iterator[DisruptionKind]:
    while True:
        some = list(kinds)
        rng.shuffle(some)
        yield from some
