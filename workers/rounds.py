"""Notice when we and an automation of HubSpot's rewrite each other. Rule: it stops, and somebody is told.

Our own write coming back is a round. People may change a property as often as they like; an automation that changes
one which we have just written for the second time has been answered by us before.
"""

from typing import Final

from redis.asyncio import Redis

from audit.episodes import Episodes
from core.alerts import Alert
from core.events import Event
from workers import keys

_WINDOW_S: Final = 60
_ROUNDS: Final = 2
_PEOPLE: Final = frozenset({None, "CRM", "CRM_UI", "USER", "IMPORT", "MOBILE_IOS", "MOBILE_ANDROID", "FORM"})


class Rounds:
    """Own writes that came back, by object and property."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def count(self, event: Event) -> None:
        """Take note of an own write that came back."""
        name = keys.rounds(event.portal_id, event.object_type, event.object_id)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hincrby(name, event.property_name or "", 1)
            pipeline.expire(name, _WINDOW_S, nx=True)
            await pipeline.execute()

    async def is_loop(self, event: Event) -> bool:
        """Return whether the event only answers what we wrote, over and over."""
        if event.kind != "propertyChange" or event.change_source in _PEOPLE:
            return False
        name = keys.rounds(event.portal_id, event.object_type, event.object_id)
        count = await self._redis.hget(name, event.property_name or "")  # type: ignore[misc]  # redis-py types one class for sync and async
        if count is None or int(count) < _ROUNDS:
            return False
        if await self._redis.set(keys.episode(event.portal_id, f"loop:{event.type}"), 1, nx=True, ex=3600):
            fields = {"portal_id": event.portal_id, "event_type": event.type, "property_name": event.property_name}
            await Episodes(self._redis).happened(Alert.REWRITE_LOOP, **fields)
        return True
