"""Handlers of the scenarios: they apply values to a ledger in Redis, and make an effect that must happen once."""

import os

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.routing import Router
from spokes.tools import Tools

ROUTER = Router()
LEDGER = Redis.from_url(os.environ["REDIS_URL"])


@ROUTER.register("contact.propertyChange")
async def apply(event: Event, tools: Tools) -> None:
    """Write the value down as the state, and note the object once."""
    await LEDGER.hset(f"ledger:{event.property_name}", event.object_id, event.property_value or "")  # type: ignore[misc]  # redis-py types one class for sync and async

    async def note() -> str:
        return str(await LEDGER.hincrby("ledger:notes", event.object_id, 1))  # type: ignore[misc]  # as above

    async def find() -> str | None:
        found = await LEDGER.hget("ledger:notes", event.object_id)  # type: ignore[misc]  # as above
        return found.decode() if found else None

    await tools.once("note", note, find=find)
