"""Measure what only workers know: budget, pauses, dead letters. Rule: one worker at a time, and nothing outlives them.

The same worker keeps what all have counted once a minute, of which the console shows differences.

The page of metrics shows what was measured last; without a worker it shows nothing of it, which is itself an alert.
"""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import CRMUnavailable
from spokes.core.redis import keys
from spokes.core.telemetry import metric_history as minutes
from spokes.core.telemetry.metric_totals import GAUGES, Samples, sample_key
from spokes.core.telemetry.metrics import (
    BUDGET_DAY_LEFT,
    BUDGET_LIMIT,
    BUDGET_PAUSE_SECONDS,
    BUDGET_USED,
    DEAD_LETTERS,
    PORTALS_PAUSED,
)
from spokes.crm.transport.rate_budget import CALL_KINDS, RateBudget
from spokes.queue.dead_letter_index import DeadLetterIndex
from spokes.queue.dead_letters import DeadLetters

_EVERY_S: Final = 10
_MINUTE_S: Final = 60
_TTL_S: Final = 45
_IN_USE_S: Final = 120  # after a worker that called for a portal has ended, it counts for so long


async def update_gauges(redis: Redis, budget: RateBudget) -> None:
    """Measure every few seconds until cancelled, unless another worker does; what is down only delays it."""
    while True:
        with contextlib.suppress(RedisError, OSError, CRMUnavailable):
            await _register_portals(redis, budget)
            if await redis.set(f"{GAUGES}:lock", 1, nx=True, ex=_EVERY_S - 1):
                await publish(redis, await measure(redis, budget))
            if await redis.set(f"{minutes.HISTORY}:lock", 1, nx=True, px=_MINUTE_S * 1000 - _EVERY_S * 500):
                await minutes.append_snapshot(redis, await minutes.take_snapshot(redis))
        await asyncio.sleep(_EVERY_S)


async def measure(redis: Redis, budget: RateBudget) -> Samples:
    """Return how it stands with budget, pauses and dead letters.

    Raises:
        RedisError, OSError, CRMUnavailable: Redis does not answer.
    """
    letters = DeadLetters(redis)
    dead = [await DeadLetterIndex(redis, portal_id).count() for portal_id in await letters.portals()]
    paused = [orjson.loads(fields)["why"] for fields in await redis.hvals(keys.PAUSED_PORTALS)]  # type: ignore[misc]  # redis-py types one class for sync and async
    figures = {sample_key(PORTALS_PAUSED, reason=reason): float(count) for reason, count in Counter(paused).items()}
    figures[sample_key(DEAD_LETTERS)] = float(sum(dead))
    in_use = await redis.zrangebyscore(keys.BUDGET_PORTALS, time.time() - _IN_USE_S, "+inf")
    states = [await budget.state(int(portal_id)) for portal_id in in_use]
    for kind in CALL_KINDS if states else ():
        fullest = max((state[kind] for state in states), key=lambda state: state.used / state.limit)
        figures[sample_key(BUDGET_LIMIT, kind=kind)] = float(fullest.limit)
        figures[sample_key(BUDGET_USED, kind=kind)] = float(fullest.used)
        figures[sample_key(BUDGET_PAUSE_SECONDS, kind=kind)] = max(state[kind].waiting_s for state in states)
    left = [told for state in states if (told := state["calls"].day_left) is not None]
    return figures | ({sample_key(BUDGET_DAY_LEFT): float(min(left))} if left else {})


async def publish(redis: Redis, samples: Samples) -> None:
    """Let the page of metrics show these, and no others, for a while."""
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.delete(GAUGES)
        pipeline.hset(GAUGES, mapping={name: str(value) for name, value in samples.items()})
        pipeline.expire(GAUGES, _TTL_S)
        await pipeline.execute()


async def _register_portals(redis: Redis, budget: RateBudget) -> None:
    """Let whoever measures know of the portals that this process calls HubSpot for."""
    if portals := budget.portals:
        await redis.zadd(keys.BUDGET_PORTALS, {str(portal_id): time.time() for portal_id in portals})
        await redis.zremrangebyscore(keys.BUDGET_PORTALS, 0, time.time() - _IN_USE_S)
