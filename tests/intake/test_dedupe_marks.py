"""The marks of admitted events in a real Valkey: in which sets they stand, how these grow, and when they expire."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import WAKE_CHANNEL, new_delivery_id
from spokes.intake.admission import Admission
from spokes.intake.classification import ClassifiedDelivery
from tests.support.events import event

KEEP_S = 48 * 3600
PER_SET = 200
HOUR_MS = 3_600_000
START = "spokes:7:seen"
CHANCE = random.Random(11)


def now_ms() -> int:
    return clock.now_ms()


def key(mark: int) -> str:
    """Return an event key with this mark."""
    return f"{mark << 4:016x}{CHANCE.getrandbits(16):04x}"


def some(count: int) -> list[int]:
    """Return marks as hashing makes them."""
    return [CHANCE.getrandbits(60) for _ in range(count)]


def arrival(marks: Sequence[int], at_ms: int) -> ClassifiedDelivery:
    element = event(1, portalId=7, occurredAt=at_ms)
    count = len(marks)
    return ClassifiedDelivery(
        new_delivery_id(7), 7, at_ms, [key(mark) for mark in marks], [at_ms] * count, [element] * count, count
    )


@pytest.fixture
async def admission(redis: Redis) -> Admission:
    return Admission(redis, dedupe_ttl_s=KEEP_S)


async def sets(redis: Redis, at_ms: int) -> dict[int, set[int]]:
    """Return the sets of an hour by their order, less the 0 that keeps each of them."""
    start = f"{START}:{at_ms // HOUR_MS}:"
    found: dict[int, set[int]] = {}
    async for name in redis.scan_iter(f"{start}*"):
        order = name.decode().removeprefix(start)
        if order != "n":
            members = {int(member) for member in await redis.smembers(name)}  # type: ignore[misc]  # redis-py types one class for sync and async
            assert 0 in members
            found[int(order)] = members - {0}
    return found


def places(marks: Sequence[int], count: int) -> dict[int, set[int]]:
    """Return where marks stand in so many sets, by another way: split set by set, from the first."""
    found = {0: set(marks)}
    for split in range(1, count):
        half = 1 << (split.bit_length() - 1)
        level, origin = split.bit_length(), split - half
        moving = {mark for mark in found[origin] if mark >> (60 - level) & 1}
        found[origin] -= moving
        found[split] = moving
    return found


async def test_every_mark_is_in_the_set_that_its_bits_tell_however_many_sets_there_are(
    redis: Redis, admission: Admission
) -> None:
    at_ms, marks, steps = now_ms(), some(1_900), 95
    for end in range(steps, len(marks) + 1, steps):
        await admission.admit(arrival(marks[end - steps : end], at_ms))
        assert await sets(redis, at_ms) == places(marks[:end], end // PER_SET + 1)


async def test_marks_that_came_at_once_are_spread_as_if_they_had_come_one_by_one(
    redis: Redis, admission: Admission
) -> None:
    at_ms, marks = now_ms(), some(900)
    await admission.admit(arrival(marks, at_ms))
    assert await sets(redis, at_ms) == places(marks, 5)


async def test_what_is_marked_is_known_whatever_has_been_split_since(admission: Admission) -> None:
    at_ms, marks = now_ms(), some(1_500)
    for start in range(0, 1_500, 250):
        await admission.admit(arrival(marks[start : start + 250], at_ms))
    again = await admission.admit(arrival(marks, at_ms))
    assert (again.keys, again.duplicate_count) == ([], 1_500)


async def test_delivery_with_known_events_marks_the_others_once(redis: Redis, admission: Admission) -> None:
    at_ms, marks = now_ms(), some(260)
    await admission.admit(arrival(marks[:150], at_ms))
    await admission.admit(arrival(marks[100:], at_ms))
    assert await sets(redis, at_ms) == places(marks, 2)
    assert await redis.get(f"{START}:{at_ms // HOUR_MS}:n") == b"260"


@pytest.mark.parametrize("upper", [0, 1, 2])
async def test_set_may_keep_all_its_marks_when_another_comes(redis: Redis, admission: Admission, upper: int) -> None:
    """The least mark that moves does."""
    at_ms = now_ms()
    marks = [*range(1, PER_SET + 1 - upper), *(2**59 + number for number in range(upper))]
    await admission.admit(arrival(marks, at_ms))
    assert await sets(redis, at_ms) == {0: set(marks[: PER_SET - upper]), 1: set(marks[PER_SET - upper :])}


async def test_whole_hour_expires_together(redis: Redis, admission: Admission) -> None:
    at_ms = now_ms()
    await admission.admit(arrival(some(150), at_ms))
    await admission.admit(arrival(some(700), at_ms))
    ends = {await redis.expiretime(name) async for name in redis.scan_iter(f"{START}:*")}
    assert ends == {(at_ms // HOUR_MS + 1) * 3600 + KEEP_S}


async def test_marks_of_old_news_are_kept_as_long_from_their_last(redis: Redis, admission: Admission) -> None:
    long_ago = now_ms() - 40 * 86_400_000
    await admission.admit(arrival(some(500), long_ago))
    names = [name async for name in redis.scan_iter(f"{START}:*")]
    for name in names:
        await redis.expire(name, 100)
    await admission.admit(arrival(some(1), long_ago))
    assert len(names) == 4
    assert all([await redis.ttl(name) > KEEP_S - 100 for name in names])


async def test_marks_of_now_are_not_put_off(redis: Redis, admission: Admission) -> None:
    at_ms = now_ms()
    await admission.admit(arrival(some(250), at_ms))
    for order in (0, 1):
        await redis.expire(f"{START}:{at_ms // HOUR_MS}:{order}", 100)
    await admission.admit(arrival(some(1), at_ms))
    assert [await redis.ttl(f"{START}:{at_ms // HOUR_MS}:{order}") <= 100 for order in (0, 1)] == [True, True]


async def test_idle_workers_are_woken_by_what_is_queued_and_by_nothing_else(redis: Redis, admission: Admission) -> None:
    at_ms, marks = now_ms(), some(3)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(WAKE_CHANNEL)
        heard = []
        for given in ([], marks, marks):
            await admission.admit(arrival(given, at_ms))
            told = [await pubsub.get_message(ignore_subscribe_messages=True, timeout=0.1) for _ in range(3)]
            heard.append(sum(one is not None for one in told))
            await asyncio.sleep(0)
    assert heard == [0, 1, 0]
