"""Registrations as a worker of some days ago recorded them."""

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.redis.keys import REGISTRATIONS
from spokes.queue.registration_times import RegistrationTimes
from spokes.routing import load_router

DAY_MS = 86_400_000


async def register(redis: Redis, days: int) -> None:
    """Let a worker have had the registrations of the repository's handlers for some days, without an event."""
    await RegistrationTimes(redis, load_router("handlers")).record()
    for field in await redis.hkeys(REGISTRATIONS):  # type: ignore[misc]
        if field.startswith(b"seen "):  # other tests of this process have matched events with the router
            await redis.hdel(REGISTRATIONS, field)  # type: ignore[misc]
        else:
            await redis.hset(REGISTRATIONS, field, clock.now_ms() - days * DAY_MS)  # type: ignore[misc]
