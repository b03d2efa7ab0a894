"""Dead letters, one by one and by what they died of. Rule: names and ids; values only for who asks for one letter's."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from redis.asyncio import Redis

from console.answers.scope import Portals, sees
from workers import keys
from workers.dead_letters import DeadLetter, DeadLetters


@dataclass(frozen=True, slots=True)
class Cause:
    """What several events died of: the reason, in which handler, how many, the oldest and the newest (epoch ms)."""

    reason: str
    handler: str
    count: int
    oldest_at: int
    newest_at: int
    letters: tuple[DeadLetter, ...]  # the newest first


async def letters(
    redis: Redis, portals: Portals, *, reason: str | None = None, handler: str | None = None,
    keys: Collection[str] = (),
) -> AsyncIterator[DeadLetter]:  # fmt: skip
    """Go through the dead letters that match, portal by portal and the newest first.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    dead = DeadLetters(redis)
    for portal_id in await dead.portals():
        if not sees(portals, portal_id):
            continue
        async for letter in dead.named(portal_id, keys) if keys else dead.list(portal_id):
            if reason is not None and letter.reason != reason:
                continue
            if handler is not None and letter.handler != handler:
                continue
            yield letter


async def causes(redis: Redis, portals: Portals) -> tuple[Cause, ...]:
    """Return what events died of, the most frequent first.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    groups: defaultdict[tuple[str, str], list[DeadLetter]] = defaultdict(list)
    async for letter in letters(redis, portals):
        groups[letter.reason, letter.handler].append(letter)
    found = []
    for (reason, handler), group in groups.items():
        group.sort(key=lambda letter: -letter.died_at)
        found.append(Cause(reason, handler, len(group), group[-1].died_at, group[0].died_at, tuple(group)))
    return tuple(sorted(found, key=lambda cause: (-cause.count, cause.reason)))


async def count(redis: Redis, portals: Portals) -> int:
    """Return how many dead letters wait for an operator; those that expired a moment ago are still counted.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    seen = [portal_id for portal_id in await DeadLetters(redis).portals() if sees(portals, portal_id)]
    return sum([await redis.zcard(keys.dead_index(portal_id)) for portal_id in seen])
