"""A handler that does nothing, or sleeps for BENCH_SLEEP_S, to measure the worker without handler work."""

import asyncio
import os
import time

import orjson
from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.routing import Router
from spokes.tools import Tools

ROUTER = Router()
SLEEP_S = float(os.environ.get("BENCH_SLEEP_S", "0"))
REPORT = Redis.from_url(os.environ["BENCH_REPORT"]) if "BENCH_REPORT" in os.environ else None


@ROUTER.register("contact.creation")
@ROUTER.register("contact.propertyChange")
async def do_nothing(event: Event, tools: Tools) -> None:
    """Sleep for BENCH_SLEEP_S, and publish the time of the call if BENCH_REPORT is set."""
    del event, tools
    if SLEEP_S:
        await asyncio.sleep(SLEEP_S)
    if REPORT is not None:
        await REPORT.publish("bench:started", orjson.dumps(time.time()))
