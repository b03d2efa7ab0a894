"""Indexes of the dead letters by time and by cause, which are counted without reading any letter.

Each portal has an index of all its dead letters and one per cause, written together. They can differ after a worker of
an older version wrote them, or if an event died twice. Their counts show it, and reading all letters once repairs it.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson
from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import read_items
from spokes.core.redis import keys
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.keys import RedisCommand
from spokes.core.redis.scripts import read_script

_REMOVE_MISSING_SCRIPT: Final = read_script(__file__, "dead_letter_index.lua")
_EXPIRY_PAGE: Final = 100  # oldest letters checked for expiry at a time
_REBUILD_PAGE: Final = 5_000  # event keys read at a time


class Cause(NamedTuple):
    """Why an event died: the reason and the handler, which is empty if none was run."""

    reason: str
    handler: str


class IndexEntry(NamedTuple):
    """A dead letter in the indexes: its cause, its event key and the epoch ms at which the event died."""

    cause: Cause
    key: str
    died_at: int


class Position(NamedTuple):
    """A place in the reading order of a portal's dead letters: when the event died (epoch ms), then its event key."""

    died_at: float
    key: bytes


@dataclass(frozen=True, slots=True)
class CauseSummary:
    """The dead letters of one cause: how many, when the oldest died (epoch ms), and the newest event keys."""

    cause: Cause
    count: int
    oldest_at: int
    newest_keys: tuple[str, ...]  # newest first


def add_commands(portal_id: int, entry: IndexEntry) -> list[RedisCommand]:
    """Return the commands that add a dead letter to the indexes."""
    cause, key, died_at = entry
    return [
        *(("ZADD", index, died_at, key) for index in index_keys(portal_id, cause)),
        ("SADD", keys.dead_letter_causes(portal_id), orjson.dumps(tuple(cause))),
        ("SADD", keys.PORTALS, portal_id),
    ]


def index_keys(portal_id: int, cause: Cause) -> tuple[str, str]:
    """Return the Redis keys of the two indexes that contain a dead letter of this cause."""
    return keys.dead_letters_by_time(portal_id), keys.dead_letters_by_cause(portal_id, *cause)


class DeadLetterIndex:
    """The indexes of one portal."""

    def __init__(self, redis: Redis, portal_id: int) -> None:
        self._redis = redis
        self._portal_id = portal_id
        self._index_key = keys.dead_letters_by_time(portal_id)

    async def count(self) -> int:
        """Return the number of dead letters."""
        await self._remove_expired()
        return int(await self._redis.zcard(self._index_key))

    async def oldest_at(self) -> int | None:
        """Return when the oldest event died (epoch ms), None if there is no dead letter."""
        await self._remove_expired()
        oldest = await self._redis.zrange(self._index_key, 0, 0, withscores=True)
        return int(oldest[0][1]) if oldest else None

    async def cause_summaries(self, newest_count: int) -> tuple[tuple[CauseSummary, ...], bool]:
        """Return a summary per cause, each with `newest_count` event keys; and whether they cover all letters."""
        await self._remove_expired()
        causes = await self._causes()
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zcard(self._index_key)
            for cause in causes:
                index = keys.dead_letters_by_cause(self._portal_id, *cause)
                pipeline.zcard(index)
                pipeline.zrange(index, 0, 0, withscores=True)
                pipeline.zrevrange(index, 0, newest_count - 1)
            total, *replies = await pipeline.execute()
        per_cause = zip(causes, replies[::3], replies[1::3], replies[2::3], strict=True)
        summaries = tuple(
            CauseSummary(cause, count, int(oldest[0][1]), tuple(key.decode(errors="replace") for key in newest))
            for cause, count, oldest, newest in per_cause
            if count
        )
        return summaries, total == sum(summary.count for summary in summaries)

    async def is_complete(self) -> bool:
        """Return whether the indexes by cause have as many dead letters as the index of all of them."""
        indexes = [keys.dead_letters_by_cause(self._portal_id, *cause) for cause in await self._causes()]
        async with self._redis.pipeline(transaction=True) as pipeline:
            for index in (self._index_key, *indexes):
                pipeline.zcard(index)
            total, *counts = await pipeline.execute()
        return bool(total == sum(counts))

    async def position_of(self, key: str) -> Position | None:
        """Return the position of an event's dead letter, None if there is no such letter."""
        died_at = await self._redis.zscore(self._index_key, key)
        return None if died_at is None else Position(died_at, key.encode())

    async def pages(
        self, size: int, *, reason: str | None = None, handler: str | None = None, after: Position | None = None
    ) -> AsyncIterator[list[str]]:
        """Yield the event keys of the matching dead letters, newest first, `size` at a time.

        Adding or removing letters during the iteration changes no position: no other letter is left out or repeated.
        """
        if reason is None and handler is None:
            indexes = [self._index_key]
        else:
            matching = [cause for cause in await self._causes() if _matches(cause, reason, handler)]
            indexes = [keys.dead_letters_by_cause(self._portal_id, *cause) for cause in matching]
        while page := await self._page(indexes, size, after):
            after = page[-1]
            yield await read_items(self._redis, "dead_letter_key", (key for _, key in page), bytes.decode)

    async def _page(self, indexes: Sequence[str], size: int, after: Position | None) -> list[Position]:
        """Return the next `size` positions of these indexes, in reading order."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            for index in indexes:
                below = "+inf" if after is None else f"({after.died_at!r}"
                pipeline.zrange(index, below, "-inf", desc=True, withscores=True, byscore=True, offset=0, num=size)  # type: ignore[arg-type]  # redis-py types bounds as int
                if after is not None:  # those that died in the same millisecond
                    pipeline.zrange(index, after.died_at, after.died_at, desc=True, withscores=True, byscore=True)  # type: ignore[arg-type]  # as above
            replies = await pipeline.execute()
        positions = {Position(died_at, key) for reply in replies for key, died_at in reply}
        return sorted((each for each in positions if after is None or each < after), reverse=True)[:size]

    async def remove_missing(self, *event_keys: str | bytes) -> int:
        """Remove those event keys whose dead letter does not exist any more; return how many."""
        causes = await self._causes()
        indexes = [self._index_key, *(keys.dead_letters_by_cause(self._portal_id, *cause) for cause in causes)]
        letter_prefix = keys.dead_letter(self._portal_id, "")
        return int(await self._redis.eval(_REMOVE_MISSING_SCRIPT, len(indexes), *indexes, letter_prefix, *event_keys))  # type: ignore[misc, arg-type]  # redis-py forgets bytes, and types one class for sync and async

    async def remove_before(self, died_at: int) -> int:
        """Remove the letters of events that died before this epoch ms; return how many."""
        causes = await self._causes()
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zremrangebyscore(self._index_key, 0, died_at)
            for cause in causes:
                pipeline.zremrangebyscore(keys.dead_letters_by_cause(self._portal_id, *cause), 0, died_at)
            return int((await pipeline.execute())[0])

    async def rebuild(self, entries: AsyncIterator[IndexEntry]) -> None:
        """Put each dead letter into the index of its own cause and no other; `entries` are those of all letters."""
        entry_by_key = {entry.key: entry async for entry in entries}
        for cause in {*await self._causes(), *(entry.cause for entry in entry_by_key.values())}:
            indexed = {
                key
                async for page in self.pages(_REBUILD_PAGE, reason=cause.reason, handler=cause.handler)
                for key in page
            }
            expected = {key: entry.died_at for key, entry in entry_by_key.items() if entry.cause == cause}
            # A key missing from `entries` but still in the portal's index died after they were read: it stays.
            wrong = [key for key in indexed - expected.keys() if key in entry_by_key or not await self._is_indexed(key)]
            async with self._redis.pipeline(transaction=True) as pipeline:
                if expected:
                    pipeline.zadd(keys.dead_letters_by_cause(self._portal_id, *cause), expected)
                    pipeline.sadd(keys.dead_letter_causes(self._portal_id), orjson.dumps(tuple(cause)))
                if wrong:
                    pipeline.zrem(keys.dead_letters_by_cause(self._portal_id, *cause), *wrong)
                replies = await pipeline.execute(raise_on_error=False)
            for reply in replies:  # the letters of an index that holds another type are still in the portal's index
                if isinstance(reply, Exception) and classify(reply) is not RedisFault.WRONG_TYPE:
                    raise reply

    async def handlers(self) -> list[str]:
        """Return the names of the handlers that have or had dead letters."""
        return sorted({cause.handler for cause in await self._causes() if cause.handler})

    async def _causes(self) -> list[Cause]:
        members: set[bytes] = await self._redis.smembers(keys.dead_letter_causes(self._portal_id))  # type: ignore[misc]  # redis-py types one class for sync and async
        return sorted(await read_items(self._redis, "dead_letter_cause", members, _read_cause))

    async def _is_indexed(self, key: str) -> bool:
        return await self._redis.zscore(self._index_key, key) is not None

    async def _remove_expired(self) -> None:
        """Remove expired letters from the indexes; the oldest expire first."""
        while oldest := await self._redis.zrange(self._index_key, 0, _EXPIRY_PAGE - 1):
            if await self.remove_missing(*oldest) < len(oldest):
                return


def _matches(cause: Cause, reason: str | None, handler: str | None) -> bool:
    return reason in (None, cause.reason) and handler in (None, cause.handler)


def _read_cause(member: bytes) -> Cause:
    reason, handler = orjson.loads(member)
    return Cause(str(reason), str(handler))
