"""Measure what only workers know: rate budget, portal pauses, dead letters. One worker at a time measures.

The same worker appends the totals of all processes to the metric history once a minute. The metrics page shows the
latest measurement; without a worker it shows none of these gauges, and their absence is an alert.
"""

import contextlib
import time
from collections import Counter
from heapq import nlargest
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import read_items
from spokes.core import clock
from spokes.core.errors import CRMUnavailable
from spokes.core.redis import keys
from spokes.core.redis.keys import METRIC_GAUGES, METRIC_GAUGES_LOCK, METRIC_HISTORY_LOCK
from spokes.core.telemetry import metric_history
from spokes.core.telemetry.metric_totals import Samples, sample_key
from spokes.core.telemetry.metrics import (
    BUDGET_DAY_LEFT,
    BUDGET_LIMIT,
    BUDGET_PAUSE_SECONDS,
    BUDGET_USED,
    CALLS_PAUSED,
    DEAD_LETTERS,
    DELIVERIES_OVERDUE,
    GAPS_OPEN,
    HELD_DELIVERIES,
    JOURNAL_AGE_SECONDS,
    PORTAL_CALLS_USED,
    PORTALS_PAUSED,
)
from spokes.crm.transport.rate_budget import CALL_KINDS, RateBudget
from spokes.intake.journal.cursor import load_cursor
from spokes.queue.dead_letter_index import DeadLetterIndex
from spokes.queue.dead_letters import DeadLetters
from spokes.queue.held_deliveries import HeldDeliveries
from spokes.queue.pauses.call_pauses import CallPauses
from spokes.queue.pauses.portal_pauses import PortalPause
from spokes.queue.running_deliveries import running_deliveries

MEASURE_EVERY_S: Final = 10
_MINUTE_S: Final = 60
_TTL_S: Final = 45
_MAX_MEASURED: Final = 100  # portals whose budgets are measured: those used last
_MAX_LABELLED: Final = 10  # portals that have samples of their own: labels stay bounded
_IN_USE_S: Final = 120  # after the last worker that used a portal's budget, it is measured for two more minutes


async def update_gauges(redis: Redis, budget: RateBudget) -> None:
    """Measure and publish, unless another worker has done so within MEASURE_EVERY_S.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    with contextlib.suppress(CRMUnavailable):
        await _register_portals(redis, budget)
        if await redis.set(METRIC_GAUGES_LOCK, 1, nx=True, ex=MEASURE_EVERY_S - 1):
            await publish(redis, await measure(redis, budget))
        if await redis.set(METRIC_HISTORY_LOCK, 1, nx=True, px=_MINUTE_S * 1000 - MEASURE_EVERY_S * 500):
            await metric_history.append_snapshot(redis, await metric_history.take_snapshot(redis))


async def measure(redis: Redis, budget: RateBudget) -> Samples:
    """Return the current values of all gauges.

    Raises:
        RedisError, OSError, CRMUnavailable: Redis does not answer.
    """
    letters = DeadLetters(redis)
    dead = [await DeadLetterIndex(redis, portal_id).count() for portal_id in await letters.portals()]
    stored = await redis.hvals(keys.PAUSED_PORTALS)  # type: ignore[misc]  # redis-py types one class for sync and async
    pauses = await read_items(redis, "pause", stored, PortalPause.from_json)
    reasons = Counter(pause.reason for pause in pauses)
    samples = {sample_key(PORTALS_PAUSED, reason=reason): float(count) for reason, count in reasons.items()}
    paused_calls = Counter(pause.kind for pause in await CallPauses(redis).list() if not pause.handler)
    samples |= {sample_key(CALLS_PAUSED, calls=kind): float(count) for kind, count in paused_calls.items()}
    held: Counter[str] = Counter()
    for calls, count in (await HeldDeliveries(redis).counts()).items():
        held[calls.kind] += count
    samples |= {sample_key(HELD_DELIVERIES, calls=kind): float(count) for kind, count in held.items()}
    samples[sample_key(DEAD_LETTERS)] = float(sum(dead))
    samples[sample_key(DELIVERIES_OVERDUE)] = float(sum(run.is_overdue for run in await running_deliveries(redis)))
    samples[sample_key(GAPS_OPEN)] = float(await redis.get(keys.OPEN_GAPS) or 0)
    if (cursor := await load_cursor(redis)).read_until:
        samples[sample_key(JOURNAL_AGE_SECONDS)] = cursor.age_ms(clock.now_ms()) / 1000
    in_use = await redis.zrevrangebyscore(
        keys.BUDGET_PORTALS, "+inf", time.time() - _IN_USE_S, start=0, num=_MAX_MEASURED
    )
    portals = await read_items(redis, "portal", in_use, int)
    by_portal = {portal_id: await budget.state(portal_id) for portal_id in portals}
    budgets = list(by_portal.values())
    for portal_id, limits in nlargest(_MAX_LABELLED, by_portal.items(), key=lambda item: item[1]["calls"].used):
        samples[sample_key(PORTAL_CALLS_USED, portal=str(portal_id))] = float(limits["calls"].used)
    for kind in CALL_KINDS if budgets else ():
        fullest = max((limits[kind] for limits in budgets), key=lambda limit: limit.used / limit.limit)
        samples[sample_key(BUDGET_LIMIT, kind=kind)] = float(fullest.limit)
        samples[sample_key(BUDGET_USED, kind=kind)] = float(fullest.used)
        samples[sample_key(BUDGET_PAUSE_SECONDS, kind=kind)] = max(limits[kind].waiting_s for limits in budgets)
    day_left = [left for limits in budgets if (left := limits["calls"].day_left) is not None]
    return samples | ({sample_key(BUDGET_DAY_LEFT): float(min(day_left))} if day_left else {})


async def publish(redis: Redis, samples: Samples) -> None:
    """Replace the gauges that the metrics page shows; they expire if no worker measures again."""
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.delete(METRIC_GAUGES)
        pipeline.hset(METRIC_GAUGES, mapping={name: str(value) for name, value in samples.items()})
        pipeline.expire(METRIC_GAUGES, _TTL_S)
        await pipeline.execute()


async def _register_portals(redis: Redis, budget: RateBudget) -> None:
    """Register the portals that this process calls HubSpot for, so that the measuring worker includes them."""
    if portals := budget.latest_portals(_MAX_MEASURED):
        await redis.zadd(keys.BUDGET_PORTALS, {str(portal_id): time.time() for portal_id in portals})
        await redis.zremrangebyscore(keys.BUDGET_PORTALS, 0, time.time() - _IN_USE_S)
