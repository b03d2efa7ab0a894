"""What goes wrong, and when. Rule: pure; a plan follows from its seed and its length alone.

Every kind of trouble comes once before any comes again, so that a short run meets as much as a long one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from random import Random
from typing import Final


@unique
class Kind(StrEnum):
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
REPEATING: Final = frozenset(Kind) - {
    Kind.WORKER_ENDED, Kind.WORKER_CLOCK, Kind.WEB_KILLED, Kind.WEB_REPLACED, Kind.STORE_RESTARTED, Kind.STORE_KILLED,
    Kind.HUBSPOT_CLOCK, Kind.TWO_VERSIONS, Kind.CRM_LIMITS,
}  # fmt: skip


# What may carry a call to HubSpot later than whoever made it has waited, or lose the places that calls have taken.
ARRIVING_LATE: Final = frozenset({Kind.WORKER_FROZEN, Kind.LINK_STALLED, Kind.LINK_SLOW, Kind.VALKEY_KILLED})


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that goes wrong: when, for how long (seconds from the start), and dice for its details."""

    kind: Kind
    at_s: float
    lasts_s: float
    dice: int

    def rng(self) -> Random:
        """Return dice that fall alike whenever this trouble comes."""
        return Random(self.dice)


_GAP_S: Final = (0.2, 2.0)  # between the beginnings of two troubles
_LASTS_S: Final = (0.3, 4.0)
_FROZEN_S: Final = (9.0, 12.0)  # longer than a lease
_CALM_S: Final = 2.0  # at the beginning: what is repeated then has no excuse


def plan(seed: int, seconds: float, kinds: Sequence[Kind] = tuple(Kind)) -> list[Trouble]:
    """Return the troubles of a run that lasts `seconds`, in their order; none begins in its last second."""
    rng = Random(f"{seed} plan")
    troubles: list[Trouble] = []
    at_s = _CALM_S
    for kind in _shuffled(kinds, rng):
        at_s += rng.uniform(*_GAP_S)
        lasts_s = rng.uniform(*(_FROZEN_S if kind is Kind.WORKER_FROZEN else _LASTS_S))
        if at_s > seconds - 1:
            return troubles
        troubles.append(Trouble(kind, round(at_s, 3), round(lasts_s, 3), rng.getrandbits(32)))
    raise AssertionError("kinds never end")


def _shuffled(kinds: Sequence[Kind], rng: Random) -> Iterator[Kind]:
    while True:
        some = list(kinds)
        rng.shuffle(some)
        yield from some
