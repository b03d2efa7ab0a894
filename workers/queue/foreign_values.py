"""Values of another type that something else wrote under the names of our keys: rename them, and restore what we can.

Without this, a key that every delivery needs would hold all work back until an operator finds it. The jobs of a queue
are found by their own keys, and pauses are restored by those who know them: see spokes/queue/pauses/restored_pauses.py.
"""

from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.redis.deployment import database_state
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.key_types import FIXED_KEYS, move_aside, wrong_types
from spokes.core.redis.keys import DEPLOYMENT, JOB_KEY_PREFIX, PAUSED_CALLS, PAUSED_PORTALS, QUEUES
from spokes.core.redis.scripts import read_script
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.queue.default_queue import job_priority

_RESTORED_ELSEWHERE: Final = frozenset({PAUSED_PORTALS, PAUSED_CALLS})
_QUEUE_AGAIN: Final = read_script(__file__, "queue_again.lua")
_PAGE_SIZE: Final = 500
log = structlog.get_logger()


class ForeignValues:
    """Replaces values that something else wrote."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    async def replace(self) -> tuple[str, ...]:
        """Replace values of another type under the fixed names of our keys, with an alert; return those names.

        Raises:
            RedisError, OSError: Redis does not answer, or its user may not rename keys.
        """
        wrong = await wrong_types(self._redis, FIXED_KEYS)
        replaced = [name for name in wrong if name not in _RESTORED_ELSEWHERE and await self._move_aside(name)]
        if replaced:
            await self._restore(replaced)
        return wrong

    async def _move_aside(self, name: str) -> bool:
        try:
            return await move_aside(self._redis, name)
        except RedisError as error:
            if classify(error) is RedisFault.UNUSABLE:  # a Redis user without RENAME: the operator must
                return False
            raise

    async def _restore(self, replaced: list[str]) -> None:
        if DEPLOYMENT in replaced:
            await database_state(self._redis, self._settings)
        await AlertEpisodes(self._redis).report_once(Alert.REDIS_KEY_REPLACED, keys=replaced)
        if not set(replaced).isdisjoint(QUEUES.values()):
            await queue_jobs_again(self._redis)


async def queue_jobs_again(redis: Redis) -> None:
    """Queue every job that is in no queue.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    script = redis.register_script(_QUEUE_AGAIN)
    queued, cursor = 0, None
    while cursor != 0:
        cursor, names = await redis.scan(cursor or 0, match=JOB_KEY_PREFIX + "*", count=_PAGE_SIZE, _type="string")
        for job_key in await _without_queue(redis, names):
            queue = QUEUES[job_priority(await redis.get(job_key) or b"") or "interactive"]
            others = [name for name in QUEUES.values() if name != queue]
            queued += int(await script(keys=[job_key, queue, *others], args=[_job_id(job_key), clock.now_ms()]))
    if queued:
        log.warning("jobs_queued_again", jobs=queued)


async def _without_queue(redis: Redis, job_keys: list[bytes]) -> list[bytes]:
    async with redis.pipeline(transaction=False) as pipeline:
        for job_key in job_keys:
            for queue in QUEUES.values():
                pipeline.zscore(queue, _job_id(job_key))
        scores = await pipeline.execute()
    of_job = [scores[at : at + len(QUEUES)] for at in range(0, len(scores), len(QUEUES))]
    return [job_key for job_key, found in zip(job_keys, of_job, strict=True) if not any(found)]


def _job_id(job_key: bytes) -> bytes:
    return job_key.removeprefix(JOB_KEY_PREFIX.encode())
