"""Erased objects, remembered by keyed hash: HubSpot may deliver an event again for days, the journal for three.

Events of such an object are discarded. Nothing is computed for an event while no object is remembered.
"""

from collections.abc import Iterable
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from spokes.audit.alerts.bad_items import report_bad_items
from spokes.audit.object_hashes import object_hash
from spokes.core import clock
from spokes.core.events import Event
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.keys import ERASED_HASHES

REFRESH_EVERY_S: Final = 2.0
_REMEMBER_MS: Final = 14 * 86_400_000


def remember_erased(
    pipeline: Pipeline, hash_key: bytes, portal_id: int, object_type: str, object_ids: Iterable[str]
) -> None:
    """Add the commands that remember an object under all its ids to the caller's pipeline."""
    now_ms = clock.now_ms()
    until_ms = now_ms + _REMEMBER_MS
    pipeline.zremrangebyscore(ERASED_HASHES, "-inf", now_ms)
    pipeline.zadd(ERASED_HASHES, {object_hash(hash_key, portal_id, object_type, each): until_ms for each in object_ids})


class ErasedObjects:
    """The remembered objects, as of the last `refresh`."""

    def __init__(self, redis: Redis, hash_key: bytes) -> None:
        self._redis = redis
        self._hash_key = hash_key
        self._state: object = None
        self.hashes: frozenset[str] = frozenset()

    async def refresh(self) -> None:
        """Read the remembered objects again if there are new ones.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        try:
            state = (
                await self._redis.zcard(ERASED_HASHES),
                await self._redis.zrevrange(ERASED_HASHES, 0, 0, withscores=True),
            )
        except ResponseError as error:
            if classify(error) is not RedisFault.WRONG_TYPE:
                raise
            await report_bad_items(self._redis, "erased_objects", 1)  # those read before stay known
            return
        if state != self._state:
            members = await self._redis.zrangebyscore(ERASED_HASHES, clock.now_ms(), "+inf")
            self.hashes, self._state = frozenset(member.decode(errors="replace") for member in members), state

    def concern(self, event: Event) -> bool:
        """Return whether an event is about an erased object; a privacyDeletion is not, because it must still run."""
        if not self.hashes or event.kind == "privacyDeletion":
            return False
        objects = {
            (event.object_type, object_id) for object_id in (event.object_id, event.survivor_id, *event.merged_ids)
        }
        if target := event.association_target:
            objects.add((target[0] or "contact", target[1]))
        return any(object_hash(self._hash_key, event.portal_id, *each) in self.hashes for each in objects)
