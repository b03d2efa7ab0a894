"""End a worker whose event loop is blocked: alert, blame the event, exit. Runs in the watchdog's thread.

The connection to Redis is a new one on an event loop of its own: those of the worker belong to the blocked loop.
"""

import asyncio
import sys
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import log_alert
from workers.protected_process import exit_process
from workers.queue.crash_loops import blame_events

EXIT_STATUS: Final = 70  # EX_SOFTWARE
_REPORT_TIMEOUT_S: Final = 5.0
log = structlog.get_logger()


def end_blocked_worker(settings: Settings, blamed: tuple[str, str] | None, **fields: Any) -> None:
    """Report which handler blocks the worker and since when, then exit; `blamed` is its delivery id and event key.

    The next worker to claim the delivery makes that event a dead letter and runs the others.
    """
    try:
        log_alert(Alert.WORKER_BLOCKED, **fields)
        with suppress(RedisError, OSError, TimeoutError):
            asyncio.run(_report(settings, blamed, fields))
    except Exception:  # whatever fails here, the worker must end
        log.exception("blocked_worker_not_reported")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        exit_process(EXIT_STATUS)


async def _report(settings: Settings, blamed: tuple[str, str] | None, fields: dict[str, Any]) -> None:
    redis = redis_client(settings, max_connections=1)
    try:
        async with asyncio.timeout(_REPORT_TIMEOUT_S):
            if blamed is not None:
                await blame_events(redis, [blamed])
            await AlertEpisodes(redis).enqueue_message(Alert.WORKER_BLOCKED, **fields)
    finally:
        await redis.aclose()
