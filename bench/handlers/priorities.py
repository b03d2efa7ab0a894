"""Handlers of the priority scenario: each event costs calls, and reports how long after its change it was done.

With BENCH_SINGLE_CALLS, each event makes one call that no other event can share; otherwise a read and an update.
"""

import os
import time

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.priority import priority_of
from spokes.routing import Router, uses
from spokes.tools import Tools

ROUTER = Router()
REPORT = Redis.from_url(os.environ["REDIS_URL"])
IS_SINGLE = bool(os.environ.get("BENCH_SINGLE_CALLS"))


@ROUTER.register("contact.propertyChange", property="city")
@uses(reads={"contacts": ("city",)}, may=("contacts.update",))
async def copy_city(event: Event, tools: Tools) -> None:
    """Make the calls, then report the seconds since the change, under the event's priority class."""
    if IS_SINGLE:
        async for _ in tools.crm.contacts.list():
            break
    else:
        record = await tools.crm.contacts.get(event.object_id)
        await tools.crm.contacts.update(event.object_id, {"state": record["city"]})
    seconds = time.time() - event.occurred_at / 1000
    await REPORT.rpush(f"priorities:{priority_of(event.change_source)}", f"{seconds:.4f}")  # type: ignore[misc]  # redis-py types one class for sync and async
