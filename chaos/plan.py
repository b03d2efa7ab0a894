"""Which disruptions happen when. Pure; a plan depends only on its seed and its length.

Every kind of disruption is planned once before any is repeated, so that even a short run has many kinds. Those of OAuth
have a sequence of their own beside the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from random import Random
from typing import Final


@unique
class DisruptionKind(StrEnum):
    """A kind of disruption."""

    WORKER_KILLED = "a worker is killed"
    WORKER_ENDED = "a worker is terminated"
    WORKER_FROZEN = "a worker is frozen until its leases have expired"
    WORKER_CLOCK = "a worker's clock is wrong, or jumps"
    WEB_KILLED = "web is killed"
    WEB_REPLACED = "web is replaced"
    VALKEY_KILLED = "Valkey is killed"
    VALKEY_RESTARTED = "Valkey is restarted"
    VALKEY_FROZEN = "Valkey is frozen"
    VALKEY_REPLACED = "a replica of Valkey is promoted"
    MEMORY_FULL = "Valkey reaches maxmemory"
    CLIENTS_FULL = "other clients of Valkey reach maxclients"
    BUSY_SCRIPT = "Valkey runs another application's script"
    NO_REPLICAS = "Valkey refuses writes for lack of replicas"
    OTHER_APPLICATION = "another arq application uses the same database"
    DISK_FULL = "the disk under the append-only file is full"
    STORE_RESTARTED = "PostgreSQL is restarted"
    STORE_KILLED = "PostgreSQL is killed"
    CRM_DOWN = "HubSpot returns 503"
    CRM_CUT = "HubSpot cuts connections after calls took effect"
    CRM_LIMITS = "HubSpot returns 429"
    CRM_SLOW = "HubSpot responds after the caller's time-out"
    HUBSPOT_CLOCK = "HubSpot's clock jumps"
    LINK_CUT = "connections are cut"
    LINK_SLOW = "a connection is slow"
    LINK_STALLED = "a connection is open and transfers nothing"
    BAD_HANDLERS = "handlers fail in every way"
    POISON = "an event kills its workers, and a job is unreadable"
    TWO_VERSIONS = "two versions run side by side"
    TOKENS_EXPIRED = "all access tokens of installed portals expire"
    APP_REFUSED = "HubSpot refuses the app's client secret"
    REFRESH_KILLED = "a worker is killed during a refresh"
    REFRESH_FROZEN = "a worker is frozen during a refresh"
    STORE_GONE_AT_REFRESH = "PostgreSQL and a worker are killed during a refresh"
    APP_REMOVED = "a portal removes the app, and installs it again"
    CALLBACK_KILLED = "web is killed between the exchange of an install's code and the save"


# Disruptions that can interrupt a handler between its effect and the record of it, so that the effect is repeated.
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
    DisruptionKind.OTHER_APPLICATION,
    DisruptionKind.BAD_HANDLERS,
    DisruptionKind.TOKENS_EXPIRED,
    DisruptionKind.APP_REFUSED,
    DisruptionKind.APP_REMOVED,
    DisruptionKind.CALLBACK_KILLED,
}


# Disruptions that can delay a call until its slot in the rate budget has expired, or lose slots.
DELAYS_CALLS: Final = frozenset(
    {DisruptionKind.WORKER_FROZEN, DisruptionKind.LINK_STALLED, DisruptionKind.LINK_SLOW, DisruptionKind.VALKEY_KILLED}
)


@dataclass(frozen=True, slots=True)
class Disruption:
    """One disruption: its start (seconds from the start of the run), its duration, and the seed of its details."""

    kind: DisruptionKind
    starts_at_s: float
    duration_s: float
    seed: int

    def rng(self) -> Random:
        """Return the random generator of this disruption's details."""
        return Random(self.seed)


OAUTH: Final = frozenset(
    {
        DisruptionKind.TOKENS_EXPIRED,
        DisruptionKind.APP_REFUSED,
        DisruptionKind.REFRESH_KILLED,
        DisruptionKind.REFRESH_FROZEN,
        DisruptionKind.STORE_GONE_AT_REFRESH,
        DisruptionKind.APP_REMOVED,
        DisruptionKind.CALLBACK_KILLED,
    }
)
_START_GAP_S: Final = (0.2, 2.0)  # between the starts of two disruptions
_OAUTH_START_GAP_S: Final = (3.0, 8.0)  # some reserve processes; the others must not wait for them
_DURATION_S: Final = (0.3, 4.0)
_FREEZE_S: Final = (9.0, 12.0)  # longer than a lease
_QUIET_S: Final = 2.0  # without disruptions at the start: repeated effects are errors there


def plan(seed: int, seconds: float, kinds: Sequence[DisruptionKind] = tuple(DisruptionKind)) -> list[Disruption]:
    """Return the disruptions of a run of `seconds`, in order; none starts in its last second."""
    oauth = [kind for kind in kinds if kind in OAUTH]
    others = [kind for kind in kinds if kind not in OAUTH]
    disruptions = [
        *_sequence(Random(f"{seed} plan"), seconds, others, _START_GAP_S),
        *_sequence(Random(f"{seed} OAuth plan"), seconds, oauth, _OAUTH_START_GAP_S),
    ]
    return sorted(disruptions, key=lambda disruption: disruption.starts_at_s)


def _sequence(
    rng: Random, seconds: float, kinds: Sequence[DisruptionKind], gap_s: tuple[float, float]
) -> Iterator[Disruption]:
    starts_at_s = _QUIET_S
    for kind in _shuffled(kinds, rng):
        starts_at_s += rng.uniform(*gap_s)
        duration_s = rng.uniform(*(_FREEZE_S if kind is DisruptionKind.WORKER_FROZEN else _DURATION_S))
        if starts_at_s > seconds - 1:
            return
        yield Disruption(kind, round(starts_at_s, 3), round(duration_s, 3), rng.getrandbits(32))


def _shuffled(kinds: Sequence[DisruptionKind], rng: Random) -> Iterator[DisruptionKind]:
    while kinds:
        shuffled = list(kinds)
        rng.shuffle(shuffled)
        yield from shuffled
