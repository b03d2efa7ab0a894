"""The indexes of dead letters: exact counts by cause without reading letters, rebuilt if the indexes differ."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from spokes.core.delivery import Entry
from spokes.core.redis import keys
from spokes.core.redis.keys import AUDIT_STREAM, JOB_QUEUE
from spokes.queue.dead_letter_index import Cause, DeadLetterIndex
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from tests.support.events import event, store_dead_letters

PORTAL = 7
MISSING, LOCKED = Cause("object_not_found", "contacts.on_creation"), Cause("object_locked", "contacts.on_creation")


def letter(number: int, cause: Cause = MISSING) -> DeadLetter:
    entry = Entry(f"{number:032x}", 3, event(number, portalId=PORTAL))
    return DeadLetter(PORTAL, "d", entry, *cause, 1000 + number)


async def counts(redis: Redis) -> dict[Cause, int]:
    return {summary.cause: summary.count for summary in await DeadLetters(redis).causes(PORTAL, 2)}


async def test_summaries_have_count_oldest_and_newest(redis: Redis) -> None:
    await store_dead_letters(redis, *map(letter, range(1, 4)), letter(9, LOCKED))
    missing, locked = sorted(await DeadLetters(redis).causes(PORTAL, 2), key=lambda summary: -summary.count)
    assert (missing.count, missing.oldest_at, missing.newest_keys) == (
        3,
        1001,
        (letter(3).entry.key, letter(2).entry.key),
    )
    assert (locked.cause, locked.count) == (LOCKED, 1)


async def test_summaries_cost_the_same_for_any_number_of_letters(redis: Redis) -> None:
    async def output_bytes() -> int:
        return int((await redis.info("stats"))["total_net_output_bytes"])

    growth = []
    for start in (0, 1_000):
        await store_dead_letters(redis, *map(letter, range(start, start + 200)))
        before = await output_bytes()
        await DeadLetters(redis).causes(PORTAL, 2)
        growth.append(await output_bytes() - before)
    assert growth[1] < growth[0] * 1.2


@pytest.mark.parametrize("method", ["replay", "discard"])
async def test_letter_closed_by_an_operator_leaves_its_index(redis: Redis, method: str) -> None:
    await store_dead_letters(redis, letter(1), letter(2))
    await getattr(DeadLetters(redis), method)([letter(1)], actor="ada", reason="repaired")
    assert await counts(redis) == {MISSING: 1}


async def test_expired_letter_is_not_counted(redis: Redis) -> None:
    await store_dead_letters(redis, letter(1), letter(2))
    await redis.delete(keys.dead_letter(PORTAL, letter(1).entry.key))
    assert await counts(redis) == {MISSING: 1}


async def test_letters_of_a_worker_without_cause_indexes_are_counted(redis: Redis) -> None:
    await store_dead_letters(redis, letter(1), letter(2, LOCKED))
    await redis.delete(keys.dead_letter_causes(PORTAL), keys.dead_letters_by_cause(PORTAL, *MISSING))
    assert await counts(redis) == {MISSING: 1, LOCKED: 1}
    assert await redis.zcard(keys.dead_letters_by_cause(PORTAL, *MISSING)) == 1


async def test_event_that_died_twice_is_in_the_index_of_its_letter(redis: Redis) -> None:
    await store_dead_letters(redis, letter(1), letter(1, LOCKED))
    assert await counts(redis) == {LOCKED: 1}


async def test_letters_of_one_cause_are_listed_newest_first(redis: Redis) -> None:
    await store_dead_letters(redis, letter(1), letter(2, LOCKED), letter(3))
    assert [
        letter.died_at
        async for letter in DeadLetters(redis).list(PORTAL, reason=MISSING.reason, handler=MISSING.handler)
    ] == [1003, 1001]


OTHER_HANDLER = Cause("object_not_found", "deals.on_change")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"reason": "object_not_found"}, [5, 3, 1]),
        ({"handler": "contacts.on_creation"}, [4, 3, 2, 1]),
        ({"reason": "object_not_found", "handler": "contacts.on_creation"}, [3, 1]),
        ({"reason": "object_locked", "handler": "deals.on_change"}, []),
        ({"reason": "unknown"}, []),
    ],
)
@pytest.mark.parametrize("lost", [(), (MISSING,), (LOCKED, OTHER_HANDLER)])
async def test_letters_are_filtered_by_reason_handler_or_both(
    redis: Redis, filters: dict[str, str], expected: list[int], lost: tuple[Cause, ...]
) -> None:
    causes = (MISSING, LOCKED, MISSING, LOCKED, OTHER_HANDLER)
    await store_dead_letters(redis, *(letter(number, cause) for number, cause in enumerate(causes, 1)))
    for cause in lost:  # as a worker of a version without indexes by cause leaves them
        await redis.delete(keys.dead_letters_by_cause(PORTAL, *cause))
    assert [letter.died_at - 1000 async for letter in DeadLetters(redis).list(PORTAL, **filters)] == expected


async def test_letters_of_one_cause_are_read_without_those_of_others(redis: Redis) -> None:
    async def output_bytes() -> int:
        return int((await redis.info("stats"))["total_net_output_bytes"])

    read = []
    for start in (0, 1_000):
        await store_dead_letters(redis, *map(letter, range(start, start + 200)), letter(9, LOCKED))
        before = await output_bytes()
        assert [each.entry.key async for each in DeadLetters(redis).list(PORTAL, reason="object_locked")]
        read.append(await output_bytes() - before)
    assert read[1] < read[0] * 1.2


@pytest.mark.parametrize("filters", [{}, {"reason": "object_not_found"}])
async def test_pages_are_complete_while_letters_come_and_go(redis: Redis, filters: dict[str, str]) -> None:
    """Twelve letters of two causes, of which four each died in the same millisecond."""
    died_at = dict.fromkeys(range(1, 5), 10) | dict.fromkeys(range(5, 9), 20) | dict.fromkeys(range(9, 13), 30)
    old = [replace(letter(n, OTHER_HANDLER if n % 2 else MISSING), died_at=at) for n, at in died_at.items()]
    await store_dead_letters(redis, *old)
    index, pages = DeadLetterIndex(redis, PORTAL), []
    async for page in index.pages(3, **filters):
        pages.append(page)
        await store_dead_letters(redis, replace(letter(100 + len(pages)), died_at=1000))
        await DeadLetters(redis).discard([each for each in old if each.entry.key in page], actor="ada", reason="test")
    assert [key for page in pages for key in page] == [each.entry.key for each in reversed(old)]


@pytest.mark.parametrize("method", ["replay", "discard"])
@pytest.mark.parametrize("name", [JOB_QUEUE, AUDIT_STREAM])
async def test_letter_is_not_lost_to_a_queue_of_another_type(redis: Redis, method: str, name: str) -> None:
    await store_dead_letters(redis, letter(1))
    await redis.set(name, "not ours")
    with pytest.raises(ResponseError):
        await getattr(DeadLetters(redis), method)([letter(1)], actor="ops", reason="test")
    assert await DeadLetters(redis).get(PORTAL, letter(1).entry.key) == letter(1)
