"""workers.upkeep.loop_watchdog: the handler that holds up the loop is named."""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.audit.alert_episodes import OUTBOX, AlertEpisodes
from spokes.core.events import Event
from spokes.routing import Router
from spokes.tools import Tools
from workers.upkeep.loop_watchdog import Watchdog

ROUTER = Router()
_MOST_S = 20.0


@ROUTER.register("contact.creation")
async def sleeps_on_the_job(event: Event, tools: Tools) -> None:
    """Hold up everything until somebody has noticed."""
    del event, tools
    deadline = time.monotonic() + _MOST_S
    while not _NOTICED[-1] and time.monotonic() < deadline:
        time.sleep(0.05)  # noqa: ASYNC251 - what the watchdog is for


_NOTICED: list[list[MutableMapping[str, Any]]] = []  # the log of each test


async def test_blocked_loop_is_an_alert_that_names_the_handler_and_is_sent(redis: Redis) -> None:
    with capture_logs() as logs, Watchdog(asyncio.get_running_loop(), ROUTER, AlertEpisodes(redis)):
        _NOTICED.append(logs)
        [(_, route)] = ROUTER
        await route.function(None, None)  # type: ignore[arg-type]  # it looks at neither
        async with asyncio.timeout(_MOST_S):
            while not await redis.llen(OUTBOX):  # noqa: ASYNC110 - another thread has it sent
                await asyncio.sleep(0.05)
    [told] = logs
    assert (told["event"], told["handler"], told["log_level"]) == ("loop_blocked", route.name, "warning")
    assert told["seconds"] >= 1
