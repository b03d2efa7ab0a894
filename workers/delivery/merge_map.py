"""The map of merged records: what was merged away is worked on under the id it lives on as.

Rule: a merge is learned before any event beside it is run, and what we hold on the losers moves to the survivor.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.queue.dead_letters import DeadLetters

_SCRIPT: Final = (Path(__file__).parent / "record_merge.lua").read_text()
_TTL_S: Final = 60 * 86_400  # outlives redeliveries and dead letters
_MAX_HOPS: Final = 100


class MergeMap:
    """What is known of merges, by all workers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)

    async def record(self, events: Iterable[Event]) -> None:
        """Take note of merges; dead letters of records that turn out to be merged away are tried again."""
        for event in events:
            losers = event.merged_ids
            portal_id, object_type, survivor = event.portal_id, event.object_type, event.survivor_id
            words: list[str | int] = [_TTL_S, keys.has_merges(portal_id)]
            for loser in losers:
                words += (keys.surviving_id(portal_id, object_type, ""), loser, survivor)
                words += (keys.newest_timestamps(portal_id, object_type, i) for i in (loser, survivor))
                words += (keys.once_effects(portal_id, object_type, i) for i in (loser, survivor))
            await self._script(args=words)
            await self._replay_letters(event, losers)

    async def surviving_id(self, event: Event) -> str:
        """Return the id under which the event's object lives on."""
        object_id = event.survivor_id
        for _ in range(_MAX_HOPS):
            later = await self._redis.get(keys.surviving_id(event.portal_id, event.object_type, object_id))
            if later is None:
                break
            object_id = later.decode()
        return object_id

    async def _replay_letters(self, merge: Event, losers: Iterable[str]) -> None:
        letters = DeadLetters(self._redis)
        for loser in losers:
            found = await letters.by_missing_object(merge.portal_id, merge.object_type, loser)
            await letters.replay(found, actor="spokes", reason="record_merged_away")
