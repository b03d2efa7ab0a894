"""Report alerts from code that must not wait for Redis."""

import asyncio
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import log_alert


class BackgroundAlerts:
    """Alerts to log and Sentry at once, and to the webhook as soon as Redis has taken the message."""

    def __init__(self, redis: Redis) -> None:
        self._episodes = AlertEpisodes(redis)
        self._tasks: set[asyncio.Task[None]] = set()

    def report(self, alert: Alert, **fields: Any) -> None:
        """Report a problem that has no duration."""
        log_alert(alert, **fields)
        task = asyncio.get_running_loop().create_task(self._queue_message(alert, fields))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait until all messages are queued."""
        await asyncio.gather(*self._tasks)

    async def _queue_message(self, alert: Alert, fields: dict[str, Any]) -> None:
        with suppress(RedisError, OSError):  # the log and Sentry have the report
            await self._episodes.enqueue_message(alert, **fields)
