"""Handlers that do nothing, or wait as long as BENCH_SLEEP_S says, for measuring what is around them."""

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
async def nothing(event: Event, tools: Tools) -> None:
    """Do what the environment asks for."""
    del event, tools
    if SLEEP_S:
        await asyncio.sleep(SLEEP_S)
    if REPORT is not None:
        await REPORT.publish("bench:started", orjson.dumps(time.time()))
