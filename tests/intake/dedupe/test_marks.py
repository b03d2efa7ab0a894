"""Dedupe marks in a real Valkey: which set holds which mark, how sets are added, and when they expire."""

import random
import time
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from spokes.core.delivery import new_delivery_id
from spokes.core.redis.keys import WAKE_CHANNEL
from spokes.intake.admission import Admission
from spokes.intake.classification import AdmissionEvent, ClassifiedDelivery
from tests.intake.conftest import DEDUPE_TTL_S
from tests.support.events import event

MARKS_PER_SET = 200
HOUR_MS = 3_600_000
PREFIX = "spokes:7:seen"
RNG = random.Random(11)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def key_with(mark: int) -> str:
    """Return an event key that has this mark."""
    return f"{mark << 4:016x}{RNG.getrandbits(16):04x}"


def random_marks(count: int) -> list[int]:
    return [RNG.getrandbits(60) for _ in range(count)]


def classified(marks: Sequence[int], at_ms: int) -> ClassifiedDelivery:
    element = event(1, portalId=7, occurredAt=at_ms)
    events = [AdmissionEvent(key_with(mark), at_ms, element) for mark in marks]
    return ClassifiedDelivery(new_delivery_id(7), 7, at_ms, events, len(events))


async def stored_sets(redis: Redis, at_ms: int) -> dict[int, set[int]]:
    """Return the sets of an hour by their number, less the 0 that each of them holds."""
    prefix = f"{PREFIX}:{at_ms // HOUR_MS}:"
    sets: dict[int, set[int]] = {}
    async for name in redis.scan_iter(f"{prefix}*"):
        number = name.decode().removeprefix(prefix)
        if number != "n":
            members = {int(member) for member in await redis.smembers(name)}  # type: ignore[misc]  # redis-py types one class for sync and async
            assert 0 in members
            sets[int(number)] = members - {0}
    return sets


def expected_sets(marks: Sequence[int], count: int) -> dict[int, set[int]]:
    """Return the content of `count` sets, computed in another way: by splitting set after set, from the first."""
    sets = {0: set(marks)}
    for added in range(1, count):
        half = 1 << (added.bit_length() - 1)
        level, origin = added.bit_length(), added - half
        moving = {mark for mark in sets[origin] if mark >> (60 - level) & 1}
        sets[origin] -= moving
        sets[added] = moving
    return sets


async def test_bits_of_a_mark_select_its_set_however_many_sets_there_are(redis: Redis, admission: Admission) -> None:
    at_ms, marks, step = now_ms(), random_marks(1_900), 95
    for end in range(step, len(marks) + 1, step):
        await admission.admit(classified(marks[end - step : end], at_ms))
        assert await stored_sets(redis, at_ms) == expected_sets(marks[:end], end // MARKS_PER_SET + 1)


async def test_marks_of_one_call_are_spread_like_marks_of_many_calls(redis: Redis, admission: Admission) -> None:
    at_ms, marks = now_ms(), random_marks(900)
    await admission.admit(classified(marks, at_ms))
    assert await stored_sets(redis, at_ms) == expected_sets(marks, 5)


async def test_marked_events_stay_known_when_sets_are_split(admission: Admission) -> None:
    at_ms, marks = now_ms(), random_marks(1_500)
    for start in range(0, 1_500, 250):
        await admission.admit(classified(marks[start : start + 250], at_ms))
    repeated = await admission.admit(classified(marks, at_ms))
    assert (repeated.events, repeated.duplicate_count) == ([], 1_500)


async def test_delivery_with_known_events_marks_the_others_once(redis: Redis, admission: Admission) -> None:
    at_ms, marks = now_ms(), random_marks(260)
    await admission.admit(classified(marks[:150], at_ms))
    await admission.admit(classified(marks[100:], at_ms))
    assert await stored_sets(redis, at_ms) == expected_sets(marks, 2)
    assert await redis.get(f"{PREFIX}:{at_ms // HOUR_MS}:n") == b"260"


@pytest.mark.parametrize("upper", [0, 1, 2])
async def test_set_that_is_split_may_keep_all_its_marks(redis: Redis, admission: Admission, upper: int) -> None:
    """2**59 is the smallest mark that moves."""
    at_ms = now_ms()
    marks = [*range(1, MARKS_PER_SET + 1 - upper), *(2**59 + number for number in range(upper))]
    await admission.admit(classified(marks, at_ms))
    split = MARKS_PER_SET - upper
    assert await stored_sets(redis, at_ms) == {0: set(marks[:split]), 1: set(marks[split:])}


async def test_whole_hour_expires_together(redis: Redis, admission: Admission) -> None:
    at_ms = now_ms()
    await admission.admit(classified(random_marks(150), at_ms))
    await admission.admit(classified(random_marks(700), at_ms))
    expiries = {await redis.expiretime(name) async for name in redis.scan_iter(f"{PREFIX}:*")}
    assert expiries == {(at_ms // HOUR_MS + 1) * 3600 + DEDUPE_TTL_S}


async def test_late_events_extend_the_expiry_of_all_marks_of_their_hour(redis: Redis, admission: Admission) -> None:
    long_ago = now_ms() - 40 * 86_400_000
    await admission.admit(classified(random_marks(500), long_ago))
    names = [name async for name in redis.scan_iter(f"{PREFIX}:*")]
    for name in names:
        await redis.expire(name, 100)
    await admission.admit(classified(random_marks(1), long_ago))
    assert len(names) == 4
    assert all([await redis.ttl(name) > DEDUPE_TTL_S - 100 for name in names])


async def test_timely_events_do_not_extend_the_expiry(redis: Redis, admission: Admission) -> None:
    at_ms = now_ms()
    await admission.admit(classified(random_marks(250), at_ms))
    for number in (0, 1):
        await redis.expire(f"{PREFIX}:{at_ms // HOUR_MS}:{number}", 100)
    await admission.admit(classified(random_marks(1), at_ms))
    ttls = [await redis.ttl(f"{PREFIX}:{at_ms // HOUR_MS}:{number}") for number in (0, 1)]
    assert [ttl <= 100 for ttl in ttls] == [True, True]


async def test_idle_workers_are_woken_by_queued_jobs_only(redis: Redis, admission: Admission) -> None:
    at_ms, marks = now_ms(), random_marks(3)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(WAKE_CHANNEL)
        message_counts = []
        for delivered in ([], marks, marks):
            await admission.admit(classified(delivered, at_ms))
            await redis.publish(WAKE_CHANNEL, "end")
            count = 0
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=20)
                if message is not None and message["data"] == b"end":
                    break
                count += message is not None
            message_counts.append(count)
    assert message_counts == [0, 1, 0]
