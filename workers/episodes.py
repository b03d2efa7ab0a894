"""Alerts, once for each episode and once when it ends. Rule: log, metric, audit and Sentry say it under one name."""

import time

import orjson
from redis.asyncio import Redis

from audit.records import Action, AuditRecord
from audit.stream import append
from core.deliveries import ALERTS
from core.telemetry import alert


class Episodes:
    """The alerts that stand, for all workers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def tell(self, name: str, *, stands: bool, level: str = "error", **fields: object) -> None:
        """Say how it stands with an alert; only a change is told.

        Args:
            name: a constant, or a constant and a fingerprint: `unusual_deletions`, `secret_old:3f2a`.
            stands: whether what it warns of is so now.
            level: of the log line and the message that begin the episode.
            fields: counts and names, never values.
        """
        stood = await self._redis.hexists(ALERTS, name)  # type: ignore[misc]  # redis-py types one class for sync and async
        if stands == stood:
            return
        action = Action.ALERT_BEGAN if stands else Action.ALERT_ENDED
        async with self._redis.pipeline(transaction=True) as pipeline:
            if stands:
                pipeline.hset(ALERTS, name, orjson.dumps({"since": time.time_ns() // 1_000_000, **fields}).decode())
            else:
                pipeline.hdel(ALERTS, name)
            append(pipeline, AuditRecord(action=action, portal_id=0, reason=name, detail=fields))
            await pipeline.execute()
        if stands:
            alert(name.partition(":")[0], level=level, **fields)
        else:
            alert(f"{name.partition(':')[0]}_over", level="info", **fields)

    async def standing(self, prefix: str) -> list[str]:
        """Return the alerts that stand and begin with `prefix`."""
        names = await self._redis.hkeys(ALERTS)  # type: ignore[misc]  # as above
        return [name.decode() for name in names if name.decode().startswith(prefix)]
