"""How much goes in and out a minute: the differences between what was counted then. Rule: of all portals or of none.

Counts carry no portal, so who may see some portals only is told nothing of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import orjson
from redis.asyncio import Redis

from spokes.audit.records import Outcome
from spokes.console.queries.portal_scope import Portals
from spokes.core.telemetry.metric_history import Snapshot, load_snapshots, take_snapshot
from spokes.core.telemetry.metric_totals import Samples

_FINAL_OUTCOMES: Final = frozenset(
    {
        Outcome.PROCESSED,
        Outcome.SUPERSEDED,
        Outcome.COALESCED,
        Outcome.ECHO,
        Outcome.MERGED,
        Outcome.DEAD,
    }
)
_FAILED_OUTCOMES: Final = frozenset({Outcome.RETRIED, Outcome.DEAD})
_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What happened in the minute that ended at `at` (epoch ms); counts are scaled to sixty seconds.

    `received` are events that came, `ended` those that came to an end; `failures` are runs by handler that ended in
    another try or as a dead letter, `runs` all of a handler's. `limited` calls were answered 429; `waited_s` is how
    long calls waited for their place in HubSpot's budget, all together.
    """

    at: int
    received: float = 0.0
    ended: float = 0.0
    results: Mapping[str, float] = field(default_factory=dict)
    outcomes: Mapping[str, float] = field(default_factory=dict)
    runs: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, float] = field(default_factory=dict)
    calls: float = 0.0
    rate_limited: float = 0.0
    waited_s: float = 0.0


async def throughput(redis: Redis, portals: Portals, *, minutes: int = 60) -> tuple[Minute, ...] | None:
    """Return the last minutes, the oldest first, and at the end what has happened since; None for who may not know.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if portals is not None:
        return None
    return rates_between([*await load_snapshots(redis, minutes + 1), await take_snapshot(redis)])


def rates_between(snapshots: Sequence[Snapshot]) -> tuple[Minute, ...]:
    """Return what happened between snapshots, the oldest first; two that lie too close tell nothing."""
    return tuple(
        _minute(later.at, _increases(earlier.sums, later.sums), _MINUTE_MS / (later.at - earlier.at))
        for earlier, later in pairwise(snapshots)
        if later.at - earlier.at >= _MINUTE_MS // 12
    )


def _increases(earlier: Samples, later: Samples) -> Samples:
    """What was added; a sum that is smaller than before has begun anew, so all of it is news."""
    return {
        name: value - before if value >= (before := earlier.get(name, 0.0)) else value for name, value in later.items()
    }


def _minute(at: int, increases: Samples, scale: float) -> Minute:
    fates: dict[str, float] = {}
    outcomes: dict[str, float] = {}
    runs: dict[str, float] = {}
    failures: dict[str, float] = {}
    calls = limited = waited = 0.0
    for key, count in increases.items():
        name, labels = orjson.loads(key)
        value = count * scale
        match name:
            case "spokes_events_total":
                _add(fates, labels.get("result") or labels["fate"], value)  # `fate`: from older versions
            case "spokes_outcomes_total":
                _add(outcomes, labels["outcome"], value)
                _add(runs, labels["handler"], value)
                if labels["outcome"] in _FAILED_OUTCOMES:
                    _add(failures, labels["handler"], value)
            case "spokes_crm_calls_total":
                calls += value
                limited += value if labels["outcome"] == "rate_limited" else 0.0
            case "spokes_budget_wait_seconds_sum":
                waited += value
    ended = sum(value for outcome, value in outcomes.items() if outcome in _FINAL_OUTCOMES)
    return Minute(
        at=at,
        received=sum(fates.values()),
        ended=ended,
        results=fates,
        outcomes=outcomes,
        runs=runs,
        failures=failures,
        calls=calls,
        rate_limited=limited,
        waited_s=waited,
    )


def _add(counts: dict[str, float], name: str, value: float) -> None:
    if name and value:
        counts[name] = counts.get(name, 0.0) + value
