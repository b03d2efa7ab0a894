"""Isolate events that kill the workers that run them.

A delivery whose workers died several times is split into one delivery per event. In each process, at most one of these
runs at a time. An event during whose runs workers keep dying becomes a dead letter. Events that move to a later
delivery before they run take the deaths along: a dead worker's lanes are busy for some seconds after it.

No single death says who caused it: the platform may have killed the worker, or the kernel for lack of memory. So only
deaths count during which the event ran alone, and the event waits longer after each: a series of kills within half a
minute counts as one or two deaths.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.delivery import Delivery
from spokes.core.redis import keys
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.telemetry.alerts import Alert

SUSPECT_FROM_TRY: Final = 4  # the earlier tries neither finished nor were released: their workers were killed
_WAITS_S: Final = (10.0, 30.0)  # from the start of a run whose worker died to the next run
_MAX_CRASHES: Final = len(_WAITS_S) + 1  # of workers, while an event ran alone
_CRASH_COUNT_TTL_S: Final = 86_400


class CrashLoopGuard:
    """The suspected events of one worker process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def isolate(self, delivery: Delivery, handler: str) -> AsyncIterator["IsolatedRun"]:
        """Run a delivery of one event, which `handler` processes, while no other suspect runs.

        The worker is counted as dead before the run, because a killed worker writes nothing after it. A run in which
        the handler ended clears the count. One that was postponed, cancelled or failed leaves the count as it was.
        """
        entry = delivery.entries[0]
        key = keys.crash_count(delivery.portal_id, entry.key)
        async with self._lock:
            if wait_s := await self._wait_s(key):
                yield IsolatedRun(is_crash_loop=False, wait_s=wait_s)
                return
            crashes = await self._redis.incr(key) - 1
            await self._redis.expire(key, _CRASH_COUNT_TTL_S)
            run = IsolatedRun(is_crash_loop=crashes >= _MAX_CRASHES)
            if run.is_crash_loop:
                await AlertEpisodes(self._redis).report_once(
                    Alert.CRASH_LOOP, portal_id=delivery.portal_id, event_type=entry.event.type, event_key=entry.key,
                    handler=handler,
                )  # fmt: skip
            try:
                yield run
            finally:
                if run.has_survived:
                    await self._redis.delete(key)
                else:
                    await self._redis.decr(key)

    async def _wait_s(self, key: str) -> float:
        """Return the seconds until an event may run again after its worker died."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.get(key)
            pipeline.pttl(key)
            crashes, left_ms = await pipeline.execute()
        if not 0 < int(crashes or 0) < _MAX_CRASHES:
            return 0.0
        return wait_s(int(crashes), _CRASH_COUNT_TTL_S - left_ms / 1000)


def wait_s(crashes: int, elapsed_s: float) -> float:
    """Return the seconds that remain of the wait after this many deaths; `elapsed_s` since the last run started."""
    return max(0.0, _WAITS_S[crashes - 1] - elapsed_s)


@dataclass(slots=True)
class IsolatedRun:
    """A run of one event alone: whether it has killed too many workers before, and whether its handler has ended.

    The event must not run before `wait_s` seconds have passed.
    """

    is_crash_loop: bool
    wait_s: float = 0.0
    has_survived: bool = False


async def blame_events(redis: Redis, events: Sequence[tuple[str, str]]) -> None:
    """Record that events ended their worker for certain: the next run of each is isolated and makes it a dead letter.

    Args:
        redis: where the queue is.
        events: id of the delivery, and event key.
    """
    for delivery_id, event_key in events:
        await redis.set(_count_key(delivery_id, event_key), _MAX_CRASHES, ex=_CRASH_COUNT_TTL_S)
    await _isolate_next_run(redis, events)


async def suspect_events(redis: Redis, events: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Record that one of these events crashed its worker: the next run of each is isolated.

    Return those whose run was isolated already.
    """
    await _isolate_next_run(redis, events)
    return [event for event in events if int(await redis.get(_count_key(*event)) or 0)]


async def _isolate_next_run(redis: Redis, events: Sequence[tuple[str, str]]) -> None:
    for delivery_id in {delivery_id for delivery_id, _ in events}:
        tries_key = keys.RETRY_KEY_PREFIX + delivery_id
        tries = int(await redis.get(tries_key) or 0)
        await redis.set(tries_key, max(tries, SUSPECT_FROM_TRY - 1), ex=_CRASH_COUNT_TTL_S)


def _count_key(delivery_id: str, event_key: str) -> str:
    return keys.crash_count(int(delivery_id.partition("-")[0]), event_key)


async def settled_keys(redis: Redis, delivery: Delivery) -> set[str]:
    """Return the keys of the delivery's events that are settled; none if something else wrote another type of value."""
    try:
        settled = await redis.smembers(keys.settled_events(delivery.portal_id, delivery.id))  # type: ignore[misc]  # redis-py types one class for sync and async
    except RedisError as error:
        if classify(error) is not RedisFault.WRONG_TYPE:
            raise
        return set()
    return {key.decode() for key in settled}
