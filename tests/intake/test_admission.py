"""spokes.intake.admission: one atomic step into a real Valkey."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from spokes.audit.records import Outcome
from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, Delivery, decode, new_delivery_id
from spokes.core.errors import QueueUnavailable
from spokes.core.events import Event
from spokes.intake.admission import Admission
from spokes.intake.classification import ClassifiedDelivery
from spokes.intake.event_keys import EventKeys
from tests.support.events import event, recorded

KEYS = EventKeys(b"secret")
KEEP_S = 48 * 3600


def arrival(*numbers: int, portal_id: int = 7) -> ClassifiedDelivery:
    elements = [event(number, portalId=portal_id) for number in numbers]
    keys, times = [KEYS(Event(raw)) for raw in elements], [raw["occurredAt"] for raw in elements]
    return ClassifiedDelivery(
        new_delivery_id(portal_id), portal_id, 1795442400000, keys, times, elements, len(elements)
    )


async def queued(redis: Redis) -> list[Delivery]:
    ids = [name.decode() for name in await redis.zrange(JOB_QUEUE, 0, -1)]
    jobs = [decode(await redis.get(JOB_KEY_PREFIX + name)) for name in ids]
    return [Delivery.from_job(job["a"][0]) for job in jobs]


async def queued_keys(redis: Redis) -> list[str]:
    return [entry.key for delivery in await queued(redis) for entry in delivery.entries]


async def test_arrival_becomes_one_job(redis: Redis) -> None:
    await Admission(redis, dedupe_ttl_s=KEEP_S).admit(arrival(1, 2, 3))
    assert [[entry.attempt for entry in delivery.entries] for delivery in await queued(redis)] == [[0, 0, 0]]


async def test_job_never_expires(redis: Redis) -> None:
    sent = arrival(1)
    await Admission(redis, dedupe_ttl_s=KEEP_S).admit(sent)
    assert await redis.ttl(JOB_KEY_PREFIX + sent.id) == -1


async def test_job_tells_whose_it_is_and_since_when_it_waits(redis: Redis) -> None:
    sent, now_ms = arrival(1), time.time() * 1000
    await Admission(redis, dedupe_ttl_s=KEEP_S).admit(sent)
    ((name, since_ms),) = await redis.zrange(JOB_QUEUE, 0, -1, withscores=True)
    job = decode(await redis.get(JOB_KEY_PREFIX + sent.id))
    assert name.decode() == Delivery.from_job(job["a"][0]).id == sent.id
    assert (since_ms % 1, abs(since_ms - now_ms) < 60_000, abs(job["et"] - now_ms) < 60_000) == (0, True, True)


async def test_redelivered_events_are_dropped_and_the_others_queued(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    await admission.admit(arrival(1, 2))
    again = await admission.admit(arrival(2, 3))
    assert (len(again.keys), again.duplicate_count) == (1, 1)
    assert len(await queued_keys(redis)) == 3


async def test_wholly_known_arrival_queues_nothing(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    await admission.admit(arrival(1))
    await admission.admit(arrival(1))
    assert len(await queued(redis)) == 1


async def test_every_duplicate_leaves_a_record(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    await admission.admit(arrival(1, 2))
    second = arrival(1, 2)
    await admission.admit(second)
    dropped = [record for record in await recorded(redis) if record.outcome is Outcome.DUPLICATE]
    assert {record.event_key for record in dropped} == set(second.keys)


async def test_same_event_of_two_portals_is_two_events(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    await admission.admit(arrival(1, portal_id=7))
    other = await admission.admit(arrival(1, portal_id=8))
    assert len(other.keys) == 1


async def test_head_counts_what_came(redis: Redis) -> None:
    await Admission(redis, dedupe_ttl_s=KEEP_S).admit(replace(arrival(1, 2), received=5, ignored={"deal.merge": 3}))
    (head,) = await recorded(redis)
    assert head.detail == {"received": 5, "admitted": 2, "duplicate": 0, "ignored": {"deal.merge": 3}, "set_aside": 0}


async def test_arrival_without_events_leaves_its_head_and_no_job(redis: Redis) -> None:
    await Admission(redis, dedupe_ttl_s=KEEP_S).admit(arrival())
    assert (len(await recorded(redis)), await queued(redis)) == (1, [])


async def test_marks_are_kept_longer_than_hubspot_retries(redis: Redis) -> None:
    await Admission(redis, dedupe_ttl_s=KEEP_S).admit(arrival(1))
    kept = [await redis.ttl(name) async for name in redis.scan_iter("spokes:7:seen:*")]
    assert kept
    assert all(24 * 3600 < seconds <= KEEP_S + 2 * 3600 for seconds in kept)


async def test_concurrent_duplicates_are_admitted_exactly_once(redis: Redis) -> None:
    rng = random.Random(7)
    admissions = [Admission(redis, dedupe_ttl_s=KEEP_S) for _ in range(3)]  # as three web processes have them
    arrivals = [arrival(*rng.sample(range(40), rng.randint(1, 20))) for _ in range(60)]
    await asyncio.gather(*(rng.choice(admissions).admit(sent) for sent in arrivals))
    sent_keys = {key for sent in arrivals for key in sent.keys}
    assert sorted(await queued_keys(redis)) == sorted(sent_keys)


async def test_restarted_redis_that_forgot_the_script_is_taught_again(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    await admission.admit(arrival(1))
    await redis.script_flush()
    await admission.admit(arrival(2))
    assert len(await queued(redis)) == 2


async def test_unreachable_redis_is_told_to_every_waiting_request() -> None:
    admission = Admission(Redis(port=1), dedupe_ttl_s=KEEP_S)
    answers = await asyncio.gather(*(admission.admit(arrival(n)) for n in range(5)), return_exceptions=True)
    assert all(isinstance(answer, QueueUnavailable) for answer in answers)


async def test_full_redis_refuses_and_keeps_nothing(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    await admission.admit(arrival(1))
    await redis.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(QueueUnavailable):
            await admission.admit(arrival(2))
    finally:
        await redis.config_set("maxmemory", "0")
    again = await admission.admit(arrival(2))
    assert len(again.keys) == 1


async def test_lost_answer_followed_by_a_redelivery_admits_once(redis: Redis) -> None:
    sent = arrival(1)
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    await admission.admit(sent)  # imagine its answer was lost, and HubSpot sends the event again
    await admission.admit(arrival(1))
    assert await queued_keys(redis) == sent.keys


class Asked:
    """What goes over the wire of an admission; with `held`, nothing is answered until it is let go."""

    def __init__(self, admission: Admission, *, held: bool = False, answer: object = None) -> None:
        self.calls: list[tuple[Sequence[object], ...]] = []
        self.go = asyncio.Event()
        if not held:
            self.go.set()
        ask = admission._lines.call

        async def asked(*commands: Sequence[Any]) -> list[object]:
            self.calls.append(commands)
            await self.go.wait()
            if isinstance(answer, Exception):
                raise answer
            return [*await ask(commands[0]), answer] if answer else await ask(*commands)

        admission._lines.call = asked  # type: ignore[method-assign]  # what is real stays behind it

    @property
    def sizes(self) -> list[object]:
        """How many arrivals each call had."""
        return [commands[0][7] for commands in self.calls]


async def turn() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_first_arrival_takes_one_call(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    asked = Asked(admission)
    await admission.admit(arrival(1))
    assert asked.sizes == [1]


async def test_who_comes_in_the_same_turn_of_the_loop_goes_along(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    asked = Asked(admission)

    async def later() -> None:
        await asyncio.sleep(0)
        await admission.admit(arrival(2))

    await asyncio.gather(admission.admit(arrival(1)), later())
    assert asked.sizes == [2]


async def test_arrivals_that_come_together_share_calls_of_up_to_two_hundred_events(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    asked = Asked(admission)
    await asyncio.gather(*(admission.admit(arrival(number)) for number in range(250)))
    assert (asked.sizes, len(await queued(redis))) == ([200, 50], 250)


async def test_arrivals_gather_behind_a_call_until_they_fill_one_and_six_are_the_most(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    await admission.admit(arrival(10_000))  # and has its connection, and Redis the script
    asked = Asked(admission, held=True)
    waiting: list[asyncio.Task[ClassifiedDelivery]] = []
    seen: list[list[object]] = []
    for more in (1, 79, 1, 80, 80, 80, 80, 80):
        first = len(waiting)
        waiting += [asyncio.create_task(admission.admit(arrival(first + number))) for number in range(more)]
        await turn()
        seen.append(asked.sizes)
    calls = [1, 80, 80, 80, 80, 80]
    assert seen == [calls[:count] for count in (1, 1, 2, 3, 4, 5, 6, 6)]
    asked.go.set()
    await asyncio.gather(*waiting)
    assert len(await queued(redis)) == len(waiting) + 1


async def test_requests_that_follow_when_a_call_ends_are_sent(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    await admission.admit(arrival(10_000))  # and has its connection, and Redis the script
    asked = Asked(admission, held=True)

    async def two(first: int) -> None:
        await admission.admit(arrival(first))
        await admission.admit(arrival(first + 1))

    both = [asyncio.create_task(two(number)) for number in (1, 3)]
    await turn()
    asked.go.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*both)
    assert len(await queued(redis)) == 5


async def test_fault_of_ours_is_not_taken_for_one_of_redis(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    Asked(admission, answer=ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        await admission.admit(arrival(1))


async def test_redis_that_never_learns_the_script_is_asked_twice(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S)
    asked = Asked(admission, answer=NoScriptError())
    with pytest.raises(QueueUnavailable):
        await admission.admit(arrival(1))
    assert len(asked.calls) == 2


@pytest.mark.parametrize(("durable", "waits"), [(False, ()), (True, (("WAITAOF", 1, 0, 3_000),))])
async def test_only_a_durable_admission_waits_for_the_disk(redis: Redis, durable: bool, waits: tuple[object]) -> None:
    given = {"durable": True} if durable else {}
    admission = Admission(redis, dedupe_ttl_s=KEEP_S, **given)  # type: ignore[arg-type]  # a dict says no types
    asked = Asked(admission)
    await admission.admit(arrival(1))
    assert asked.calls[0][1:] == waits


async def test_durable_admission_refuses_when_the_disk_is_too_slow(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=KEEP_S, durable=True)
    Asked(admission, answer=[0, 1])  # Redis wrote to no file of its own within the time
    with pytest.raises(QueueUnavailable) as refused:
        await admission.admit(arrival(1))
    assert refused.value.reason == "disk_too_slow"


@pytest.mark.parametrize(
    ("given", "seconds"), [({}, 5.0), ({"timeout_s": 2.0}, 2.0), ({"timeout_s": 2.0, "durable": True}, 5.0)]
)
def test_call_may_take_as_long_as_is_said_and_three_seconds_more_for_the_disk(
    given: dict[str, Any], seconds: float
) -> None:
    assert Admission(Redis(), dedupe_ttl_s=KEEP_S, **given)._lines._timeout_s == seconds
