"""Counts per interval: differences between stored metric snapshots.

Metrics have no portal label, so the counts are shown only to actors who may see all portals.
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
        Outcome.DISCARDED,  # an event of an erased object; workers count no other
    }
)
_FAILED_OUTCOMES: Final = frozenset({Outcome.RETRIED, Outcome.DEAD})
_MINUTE_MS: Final = 60_000
_SHORTEST_MS: Final = 5_000  # between two snapshots; a closer one, of another worker, is merged into the next interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """Counts of the interval that ended at `at` (epoch ms) and lasted `length_ms`, about a minute; nothing is scaled.

    `received` counts the events that receivers read, `results` the same events by result of admission. `ended` counts
    events with a final outcome. `runs` counts handler calls by handler, `failures` those that were retried or became
    dead letters. `rate_limited` calls were answered 429; `waited_s` is the total wait of all calls for a slot of the
    rate budget.
    """

    at: int
    length_ms: int = _MINUTE_MS
    received: float = 0.0
    ended: float = 0.0
    results: Mapping[str, float] = field(default_factory=dict)
    outcomes: Mapping[str, float] = field(default_factory=dict)
    runs: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, float] = field(default_factory=dict)
    calls: float = 0.0
    rate_limited: float = 0.0
    waited_s: float = 0.0

    def per_minute(self, count: float) -> float:
        """Return a count of this interval as a rate."""
        return count * _MINUTE_MS / max(self.length_ms, 1)


async def throughput(redis: Redis, portals: Portals, *, minutes: int = 60) -> tuple[Minute, ...] | None:
    """Return the last minutes, oldest first, then the time since the last snapshot; None unless `portals` is None.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if portals is not None:
        return None
    return counts_between([*await load_snapshots(redis, minutes + 1), await take_snapshot(redis)])


def counts_between(snapshots: Sequence[Snapshot]) -> tuple[Minute, ...]:
    """Return the counts between snapshots, oldest first; the last one is of the unfinished minute.

    The counts add up to the increase from the first snapshot to the last.
    """
    kept: list[Snapshot] = []
    for snapshot in snapshots[:-1]:
        if not kept or snapshot.at - kept[-1].at >= _SHORTEST_MS:
            kept.append(snapshot)
    return tuple(
        _minute(later.at, later.at - earlier.at, _increases(earlier.sums, later.sums))
        for earlier, later in pairwise([*kept, *snapshots[-1:]])
    )


def _increases(earlier: Samples, later: Samples) -> Samples:
    """Return how much each sum grew; a sum smaller than before has been reset and counts in full."""
    return {
        name: value - before if value >= (before := earlier.get(name, 0.0)) else value for name, value in later.items()
    }


def _minute(at: int, length_ms: int, increases: Samples) -> Minute:
    results: dict[str, float] = {}
    outcomes: dict[str, float] = {}
    runs: dict[str, float] = {}
    failures: dict[str, float] = {}
    calls = rate_limited = waited_s = 0.0
    for key, value in increases.items():
        name, labels = orjson.loads(key)
        match name:
            case "spokes_events_total":
                # The label was `fate` in versions whose snapshots and totals may still be in Redis.
                _add(results, labels.get("result") or labels["fate"], value)
            case "spokes_outcomes_total":
                _add(outcomes, labels["outcome"], value)
                _add(runs, labels["handler"], value)
                if labels["outcome"] in _FAILED_OUTCOMES:
                    _add(failures, labels["handler"], value)
            case "spokes_crm_calls_total":
                calls += value
                rate_limited += value if labels["outcome"] == "rate_limited" else 0.0
            case "spokes_budget_wait_seconds_sum":
                waited_s += value
    ended = sum(value for outcome, value in outcomes.items() if outcome in _FINAL_OUTCOMES)
    return Minute(
        at=at,
        length_ms=length_ms,
        received=sum(results.values()),
        ended=ended,
        results=results,
        outcomes=outcomes,
        runs=runs,
        failures=failures,
        calls=calls,
        rate_limited=rate_limited,
        waited_s=waited_s,
    )


def _add(counts: dict[str, float], name: str, value: float) -> None:
    if name and value:
        counts[name] = counts.get(name, 0.0) + value
