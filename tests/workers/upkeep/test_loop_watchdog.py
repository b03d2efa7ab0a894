"""workers.upkeep.loop_watchdog: an alert names the handler that blocks the event loop."""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.events import Event
from spokes.core.redis.keys import ALERT_OUTBOX
from spokes.routing import Router
from spokes.tools import Tools
from workers.upkeep.loop_watchdog import Watchdog

ROUTER = Router()
_TIMEOUT_S = 20.0


@ROUTER.register("contact.creation")
async def block_the_loop(event: Event, tools: Tools) -> None:
    """Block until the watchdog has logged it."""
    del event, tools
    deadline = time.monotonic() + _TIMEOUT_S
    while not _LOGS[-1] and time.monotonic() < deadline:
        time.sleep(0.05)  # noqa: ASYNC251 - what the watchdog is for


_LOGS: list[list[MutableMapping[str, Any]]] = []  # the log of each test


async def test_blocked_loop_is_an_alert_that_names_the_handler(redis: Redis) -> None:
    watchdog = Watchdog(
        asyncio.get_running_loop(), ROUTER, AlertEpisodes(redis), lambda *_: None, max_blocked_s=_TIMEOUT_S * 2
    )
    with capture_logs() as logs, watchdog:
        _LOGS.append(logs)
        [(_, route)] = ROUTER
        await route.function(None, None)  # type: ignore[arg-type]  # it uses neither
        async with asyncio.timeout(_TIMEOUT_S):
            while not await redis.llen(ALERT_OUTBOX):  # noqa: ASYNC110 - another thread has it sent
                await asyncio.sleep(0.05)
    [line] = logs
    assert (line["event"], line["handler"], line["log_level"]) == ("loop_blocked", route.name, "warning")
    assert line["seconds"] >= 1
