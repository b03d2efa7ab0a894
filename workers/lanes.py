"""One object at a time, newest truth wins. Rule: who holds an object's lane is the only one working on it, anywhere."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from core.deliveries import Entry
from core.events import Event
from workers import keys

LEASE_MS: Final = 8_000  # a dead worker's lanes are free again after this; the heartbeat renews those of the living
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8)  # waits for a busy object before its events are put off
_GIVE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


@dataclass(frozen=True, slots=True)
class Work:
    """An event to be worked on, with the entry of its delivery."""

    entry: Entry
    event: Event


def group(portal_id: int, entries: Iterable[Entry]) -> dict[str, list[Work]]:
    """Return the events by lane, oldest first in each; an event without an object has a lane of its own.

    Raises:
        UnreadableDelivery: an entry is no longer an event.
    """
    lanes: dict[str, list[Work]] = {}
    for entry in entries:
        event = entry.event
        lane = keys.lane(portal_id, event.object_type, event.survivor_id or entry.key)
        lanes.setdefault(lane, []).append(Work(entry, event))
    for works in lanes.values():
        works.sort(key=lambda work: work.event.occurred_at)
    return lanes


def is_superseded(event: Event, newest: Mapping[str, int]) -> bool:
    """Return whether a newer change of the same property was already applied.

    Args:
        event: any event; only property changes can be superseded.
        newest: property name to the `occurredAt` of the newest applied change.
    """
    if event.kind != "propertyChange" or event.property_name is None:
        return False
    return event.occurred_at < newest.get(event.property_name, 0)


class Lanes:
    """The lanes that one worker process holds."""

    def __init__(self, redis: Redis, holder: str) -> None:
        """Hold lanes in the name of `holder`, which no other process shares."""
        self._redis = redis
        self._holder = holder
        self._give = redis.register_script(_GIVE)
        self.held: set[str] = set()

    async def take(self, lane: str) -> bool:
        """Return whether the lane is ours now; waits a little for one that is held by another delivery."""
        for pause_s in _PAUSES_S:
            if lane not in self.held and await self._redis.set(lane, self._holder, nx=True, px=LEASE_MS):
                self.held.add(lane)
                return True
            await asyncio.sleep(pause_s)
        return False

    async def give(self, lane: str) -> None:
        """Give a lane back; one that we do not hold is left alone."""
        if lane in self.held:
            self.held.discard(lane)
            await self._give(keys=[lane], args=[self._holder])
