"""Handlers of the portals scenario: each event makes one call, and reports how long after its change it was done."""

import os
import time

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.routing import Router, uses
from spokes.tools import Tools

ROUTER = Router()
REPORT = Redis.from_url(os.environ["REDIS_URL"])


@ROUTER.register("contact.propertyChange", property="city")
@uses(reads={"contacts": ("city",)}, may=("contacts.update",))
async def list_contacts(event: Event, tools: Tools) -> None:
    """Make a call that no other event can share, then report the seconds since the change, by portal."""
    async for _ in tools.crm.contacts.list():
        break
    seconds = time.time() - event.occurred_at / 1000
    await REPORT.rpush(f"portals:{event.portal_id}", f"{seconds:.4f}")  # type: ignore[misc]  # redis-py types one class for sync and async
