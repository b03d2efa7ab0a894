"""Which dead letters there are, and what they died of, by name alone. Rule: counting them reads none of them.

Each portal has an index of all its letters and one for each cause. They are written together; what makes them differ (a
worker of an older version, an event that died twice) is found by their counts and mended by reading the letters once.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import orjson
from redis.asyncio import Redis

from spokes.core.redis import keys
from spokes.core.redis.keys import RedisCommand

_REMOVE_MISSING_SCRIPT: Final = (Path(__file__).parent / "dead_letter_index.lua").read_text()
_EXPIRY_PAGE: Final = 100  # letters that are looked at for having expired, at a time


class Cause(NamedTuple):
    """What an event died of: the reason, and the handler; empty where none was run."""

    reason: str
    handler: str


class IndexEntry(NamedTuple):
    """Where a letter stands: its cause, its event's key, the epoch ms at which it died."""

    cause: Cause
    key: str
    died_at: int


@dataclass(frozen=True, slots=True)
class CauseSummary:
    """The letters of one cause: how many, the oldest (epoch ms), and the keys of the newest, the newest first."""

    cause: Cause
    count: int
    oldest_at: int
    newest_keys: tuple[str, ...]


def add_commands(portal_id: int, entry: IndexEntry) -> list[RedisCommand]:
    """Return the commands that enter a letter."""
    cause, key, died_at = entry
    return [
        *(("ZADD", index, died_at, key) for index in index_keys(portal_id, cause)),
        ("SADD", keys.dead_letter_causes(portal_id), orjson.dumps(tuple(cause))),
        ("SADD", keys.PORTALS, portal_id),
    ]


def index_keys(portal_id: int, cause: Cause) -> tuple[str, str]:
    """Return the two indexes that name a letter of this cause."""
    return keys.dead_letters_by_time(portal_id), keys.dead_letters_by_cause(portal_id, *cause)


class DeadLetterIndex:
    """The indexes of one portal."""

    def __init__(self, redis: Redis, portal_id: int) -> None:
        self._redis = redis
        self._portal_id = portal_id
        self._index_key = keys.dead_letters_by_time(portal_id)

    async def count(self) -> int:
        """Return how many letters there are."""
        await self._remove_expired()
        return int(await self._redis.zcard(self._index_key))

    async def oldest_at(self) -> int | None:
        """Return when the oldest letter died (epoch ms)."""
        await self._remove_expired()
        found = await self._redis.zrange(self._index_key, 0, 0, withscores=True)
        return int(found[0][1]) if found else None

    async def cause_summaries(self, newest_count: int) -> tuple[tuple[CauseSummary, ...], bool]:
        """Return the causes, each with the keys of its `newest` letters; and whether that is all letters."""
        await self._remove_expired()
        causes = await self._causes()
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zcard(self._index_key)
            for cause in causes:
                index = keys.dead_letters_by_cause(self._portal_id, *cause)
                pipeline.zcard(index)
                pipeline.zrange(index, 0, 0, withscores=True)
                pipeline.zrevrange(index, 0, newest_count - 1)
            count, *told = await pipeline.execute()
        each = zip(causes, told[::3], told[1::3], told[2::3], strict=True)
        groups = tuple(
            CauseSummary(cause, many, int(oldest[0][1]), tuple(key.decode() for key in names))
            for cause, many, oldest, names in each
            if many
        )
        return groups, count == sum(group.count for group in groups)

    async def event_keys(self, cause: Cause | None = None) -> list[str]:
        """Return the keys of all letters, or of those of a cause, the newest first."""
        index = self._index_key if cause is None else keys.dead_letters_by_cause(self._portal_id, *cause)
        return [name.decode() for name in await self._redis.zrevrange(index, 0, -1)]

    async def remove_missing(self, *event_keys: str) -> int:
        """Take out those of the names whose letter is no more; return how many."""
        indexes = [
            self._index_key,
            *(keys.dead_letters_by_cause(self._portal_id, *cause) for cause in await self._causes()),
        ]
        args = (*indexes, keys.dead_letter(self._portal_id, ""), *event_keys)
        removed = await self._redis.eval(_REMOVE_MISSING_SCRIPT, len(indexes), *args)  # type: ignore[misc]  # redis-py types one class for sync and async
        return int(removed)

    async def remove_before(self, died_at: int) -> int:
        """Take out what died before this epoch ms; return how many."""
        causes = await self._causes()
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zremrangebyscore(self._index_key, 0, died_at)
            for cause in causes:
                pipeline.zremrangebyscore(keys.dead_letters_by_cause(self._portal_id, *cause), 0, died_at)
            return int((await pipeline.execute())[0])

    async def rebuild(self, entries: AsyncIterator[IndexEntry]) -> None:
        """Enter every letter under its own cause and no other; `places` are those of all letters."""
        true = {place.key: place async for place in entries}
        for cause in {*await self._causes(), *(place.cause for place in true.values())}:
            there = set(await self.event_keys(cause))
            ours = {key: place.died_at for key, place in true.items() if place.cause == cause}
            # What nobody knew of when `places` were read has died since, and is entered by who kept it.
            wrong = [key for key in there - ours.keys() if key in true or not await self._is_indexed(key)]
            async with self._redis.pipeline(transaction=True) as pipeline:
                if ours:
                    pipeline.zadd(keys.dead_letters_by_cause(self._portal_id, *cause), ours)
                    pipeline.sadd(keys.dead_letter_causes(self._portal_id), orjson.dumps(tuple(cause)))
                if wrong:
                    pipeline.zrem(keys.dead_letters_by_cause(self._portal_id, *cause), *wrong)
                await pipeline.execute()

    async def _causes(self) -> list[Cause]:
        told: set[bytes] = await self._redis.smembers(keys.dead_letter_causes(self._portal_id))  # type: ignore[misc]  # redis-py types one class for sync and async
        return sorted(Cause(*orjson.loads(one)) for one in told)

    async def _is_indexed(self, key: str) -> bool:
        return await self._redis.zscore(self._index_key, key) is not None

    async def _remove_expired(self) -> None:
        """Letters end by themselves, the oldest first: take out those that have."""
        while names := [name.decode() for name in await self._redis.zrange(self._index_key, 0, _EXPIRY_PAGE - 1)]:
            if await self.remove_missing(*names) < len(names):
                return
