"""Dead letters by cause."""

from redis.asyncio import Redis

from spokes.console.queries.dead_letters import dead_letter_causes
from tests.console.queries.helpers import OTHER_PORTAL, PORTAL, store_letter


async def test_dead_letters_are_grouped_by_cause(redis: Redis) -> None:
    for number, reason in ((1, "no_handler"), (2, "object_not_causes"), (3, "object_not_causes")):
        await store_letter(redis, number, reason)
    await store_letter(redis, 4, portal=OTHER_PORTAL)
    causes = await dead_letter_causes(redis, frozenset({PORTAL}))
    assert [(cause.reason, cause.count, cause.oldest_at, cause.newest_at) for cause in causes] == [
        ("object_not_causes", 2, 1002, 1003),
        ("no_handler", 1, 1001, 1001),
    ]
