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
from spokes.core.redis.keys import Command

_FORGET: Final = (Path(__file__).parent / "dead_letter_index.lua").read_text()
_OLDEST: Final = 100  # letters that are looked at for having expired, at a time


class Cause(NamedTuple):
    """What an event died of: the reason, and the handler; empty where none was run."""

    reason: str
    handler: str


class Place(NamedTuple):
    """Where a letter stands: its cause, its event's key, the epoch ms at which it died."""

    cause: Cause
    key: str
    died_at: int


@dataclass(frozen=True, slots=True)
class Group:
    """The letters of one cause: how many, the oldest (epoch ms), and the keys of the newest, the newest first."""

    cause: Cause
    count: int
    oldest_at: int
    newest: tuple[str, ...]


def entered(portal_id: int, place: Place) -> list[Command]:
    """Return the commands that enter a letter."""
    cause, key, died_at = place
    return [
        *(("ZADD", index, died_at, key) for index in of(portal_id, cause)),
        ("SADD", keys.dead_causes(portal_id), orjson.dumps(tuple(cause))),
        ("SADD", keys.PORTALS, portal_id),
    ]


def of(portal_id: int, cause: Cause) -> tuple[str, str]:
    """Return the two indexes that name a letter of this cause."""
    return keys.dead_index(portal_id), keys.dead_of_cause(portal_id, *cause)


class DeadIndex:
    """The indexes of one portal."""

    def __init__(self, redis: Redis, portal_id: int) -> None:
        self._redis = redis
        self._portal_id = portal_id
        self._all = keys.dead_index(portal_id)

    async def count(self) -> int:
        """Return how many letters there are."""
        await self._forget_expired()
        return int(await self._redis.zcard(self._all))

    async def oldest_at(self) -> int | None:
        """Return when the oldest letter died (epoch ms)."""
        await self._forget_expired()
        found = await self._redis.zrange(self._all, 0, 0, withscores=True)
        return int(found[0][1]) if found else None

    async def groups(self, newest: int) -> tuple[tuple[Group, ...], bool]:
        """Return the causes, each with the keys of its `newest` letters; and whether that is all letters."""
        await self._forget_expired()
        causes = await self._causes()
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zcard(self._all)
            for cause in causes:
                index = keys.dead_of_cause(self._portal_id, *cause)
                pipeline.zcard(index)
                pipeline.zrange(index, 0, 0, withscores=True)
                pipeline.zrevrange(index, 0, newest - 1)
            count, *told = await pipeline.execute()
        each = zip(causes, told[::3], told[1::3], told[2::3], strict=True)
        groups = tuple(
            Group(cause, many, int(oldest[0][1]), tuple(key.decode() for key in names))
            for cause, many, oldest, names in each
            if many
        )
        return groups, count == sum(group.count for group in groups)

    async def names(self, cause: Cause | None = None) -> list[str]:
        """Return the keys of all letters, or of those of a cause, the newest first."""
        index = self._all if cause is None else keys.dead_of_cause(self._portal_id, *cause)
        return [name.decode() for name in await self._redis.zrevrange(index, 0, -1)]

    async def forget(self, *names: str) -> int:
        """Take out those of the names whose letter is no more; return how many."""
        indexes = [self._all, *(keys.dead_of_cause(self._portal_id, *cause) for cause in await self._causes())]
        return int(await self._redis.eval(_FORGET, len(indexes), *indexes, keys.dead(self._portal_id, ""), *names))  # type: ignore[misc]  # redis-py types one class for sync and async

    async def forget_before(self, died_at: int) -> int:
        """Take out what died before this epoch ms; return how many."""
        causes = await self._causes()
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zremrangebyscore(self._all, 0, died_at)
            for cause in causes:
                pipeline.zremrangebyscore(keys.dead_of_cause(self._portal_id, *cause), 0, died_at)
            return int((await pipeline.execute())[0])

    async def mend(self, places: AsyncIterator[Place]) -> None:
        """Enter every letter under its own cause and no other; `places` are those of all letters."""
        true = {place.key: place async for place in places}
        for cause in {*await self._causes(), *(place.cause for place in true.values())}:
            there = set(await self.names(cause))
            ours = {key: place.died_at for key, place in true.items() if place.cause == cause}
            # What nobody knew of when `places` were read has died since, and is entered by who kept it.
            wrong = [key for key in there - ours.keys() if key in true or not await self._lives(key)]
            async with self._redis.pipeline(transaction=True) as pipeline:
                if ours:
                    pipeline.zadd(keys.dead_of_cause(self._portal_id, *cause), ours)
                    pipeline.sadd(keys.dead_causes(self._portal_id), orjson.dumps(tuple(cause)))
                if wrong:
                    pipeline.zrem(keys.dead_of_cause(self._portal_id, *cause), *wrong)
                await pipeline.execute()

    async def _causes(self) -> list[Cause]:
        told: set[bytes] = await self._redis.smembers(keys.dead_causes(self._portal_id))  # type: ignore[misc]  # redis-py types one class for sync and async
        return sorted(Cause(*orjson.loads(one)) for one in told)

    async def _lives(self, key: str) -> bool:
        return await self._redis.zscore(self._all, key) is not None

    async def _forget_expired(self) -> None:
        """Letters end by themselves, the oldest first: take out those that have."""
        while names := [name.decode() for name in await self._redis.zrange(self._all, 0, _OLDEST - 1)]:
            if await self.forget(*names) < len(names):
                return
