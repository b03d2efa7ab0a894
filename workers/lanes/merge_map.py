"""The merge map: from the id of a merged record to the surviving id.

A delivery's merges are recorded before its other events run. What we hold on the merged records moves to the survivor.
"""

from collections.abc import Iterable
from typing import Final

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.scripts import read_script
from spokes.queue.dead_letters import DeadLetters

_SCRIPT: Final = read_script(__file__, "surviving_id.lua", "record_merge.lua")
_TTL_S: Final = 60 * 86_400  # longer than redeliveries and dead letters
_MAX_HOPS: Final = 100  # as in surviving_id.lua


class MergeMap:
    """The merge map in Redis, shared by all workers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)

    async def record(self, merges: Iterable[Event]) -> None:
        """Record merges; replay the dead letters that missed the merged records."""
        for event in merges:
            merged_ids = event.merged_ids
            portal_id, object_type, survivor = event.portal_id, event.object_type, event.survivor_id
            args: list[str | int] = [_TTL_S, keys.has_merges(portal_id)]
            for merged_id in merged_ids:
                args += (keys.surviving_id(portal_id, object_type, ""), merged_id, survivor)
                args += (keys.newest_timestamps(portal_id, object_type, id_) for id_ in (merged_id, survivor))
                args += (keys.once_effects(portal_id, object_type, id_) for id_ in (merged_id, survivor))
            await self._script(args=args)
            await self._replay_letters(event, merged_ids)

    async def surviving_id(self, event: Event) -> str:
        """Return the id that the event's record has now."""
        object_id = event.survivor_id
        for _ in range(_MAX_HOPS):
            survivor = await self._redis.get(keys.surviving_id(event.portal_id, event.object_type, object_id))
            if survivor is None:
                break
            object_id = survivor.decode()
        return object_id

    async def _replay_letters(self, merge: Event, merged_ids: Iterable[str]) -> None:
        dead_letters = DeadLetters(self._redis)
        for merged_id in merged_ids:
            letters = await dead_letters.by_missing_object(merge.portal_id, merge.object_type, merged_id)
            await dead_letters.replay(letters, actor="spokes", reason="record_merged_away")
