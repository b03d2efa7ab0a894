"""Dead letters, singly and grouped by cause."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import NamedTuple

from redis.asyncio import Redis

from spokes.console.queries.portal_scope import Portals, can_see
from spokes.queue.dead_letter_index import Cause, CauseSummary, DeadLetterIndex, Position
from spokes.queue.dead_letters import DeadLetter, DeadLetters


@dataclass(frozen=True, slots=True)
class DeadLetterCause:
    """Dead letters with the same reason and handler: how many, the oldest and the newest (epoch ms)."""

    reason: str
    handler: str
    count: int
    oldest_at: int
    newest_at: int
    letters: tuple[DeadLetter, ...]  # the newest only, newest first


class Place(NamedTuple):
    """A place in the list of all dead letters: the portal, then the position within it."""

    portal_id: int
    position: Position


async def place_of(redis: Redis, portals: Portals, portal_id: int, key: str) -> Place | None:
    """Return the place of a dead letter, None if it is gone or the reader may not see its portal.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if not can_see(portals, portal_id):
        return None
    position = await DeadLetterIndex(redis, portal_id).position_of(key)
    return None if position is None else Place(portal_id, position)


async def find_dead_letters(
    redis: Redis, portals: Portals, *, reason: str | None = None, handler: str | None = None,
    keys: Collection[str] = (), after: Place | None = None,
) -> AsyncIterator[DeadLetter]:  # fmt: skip
    """Yield the matching dead letters, portal by portal, newest first; with `after`, those that follow this place.

    `keys` are those of events or, for one of several handlers of an event, those of single letters.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    dead = DeadLetters(redis)
    for portal_id in await dead.portals():
        if not can_see(portals, portal_id) or (after is not None and portal_id < after.portal_id):
            continue
        position = after.position if after is not None and portal_id == after.portal_id else None
        listed = dead.list(portal_id, reason=reason, handler=handler, after=position)
        async for letter in dead.by_events(portal_id, keys) if keys else listed:
            if reason is not None and letter.reason != reason:
                continue
            if handler is not None and letter.handler != handler:
                continue
            yield letter


async def dead_letter_causes(redis: Redis, portals: Portals, *, newest: int = 50) -> tuple[DeadLetterCause, ...]:
    """Return the causes of dead letters, most frequent first, each with up to `newest` letters.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    dead = DeadLetters(redis)
    groups: defaultdict[Cause, list[CauseSummary]] = defaultdict(list)
    letters: defaultdict[Cause, list[DeadLetter]] = defaultdict(list)
    for portal_id in [portal_id for portal_id in await dead.portals() if can_see(portals, portal_id)]:
        for group in await dead.causes(portal_id, newest):
            groups[group.cause].append(group)
            letters[group.cause] += [letter async for letter in dead.by_keys(portal_id, group.newest_keys)]
    causes = []
    for cause, summaries in groups.items():
        shown = sorted(letters[cause], key=lambda letter: -letter.died_at)[:newest]
        count, oldest_at = sum(group.count for group in summaries), min(group.oldest_at for group in summaries)
        causes.append(DeadLetterCause(*cause, count, oldest_at, shown[0].died_at if shown else oldest_at, tuple(shown)))
    return tuple(sorted(causes, key=lambda cause: (-cause.count, cause.reason, cause.handler)))


async def count_dead_letters(redis: Redis, portals: Portals) -> int:
    """Return the number of dead letters.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    seen = [portal_id for portal_id in await DeadLetters(redis).portals() if can_see(portals, portal_id)]
    return sum([await DeadLetterIndex(redis, portal_id).count() for portal_id in seen])
