"""Handlers of the scenarios: they write values to a ledger in Redis, and count an effect that must happen once."""

import os

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.routing import Router
from spokes.tools import Tools

ROUTER = Router()
LEDGER = Redis.from_url(os.environ["REDIS_URL"])


@ROUTER.register("contact.propertyChange")
async def apply_value(event: Event, tools: Tools) -> None:
    """Write the value to the ledger, and increment the object's counter once."""
    await LEDGER.hset(f"ledger:{event.property_name}", event.object_id, event.property_value or "")  # type: ignore[misc]  # redis-py types one class for sync and async

    async def note() -> str:
        return str(await LEDGER.hincrby("ledger:notes", event.object_id, 1))  # type: ignore[misc]  # as above

    async def find() -> str | None:
        count = await LEDGER.hget("ledger:notes", event.object_id)  # type: ignore[misc]  # as above
        return count.decode() if count else None

    await tools.once("note", note, find=find)
