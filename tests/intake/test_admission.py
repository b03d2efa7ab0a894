"""spokes.intake.admission: one atomic step into a real Valkey."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from spokes.core.delivery import Delivery, decode, new_delivery_id
from spokes.core.errors import QueueUnavailable
from spokes.core.events import Event
from spokes.core.redis.keys import AUDIT_STREAM, IMPORT_QUEUE, JOB_KEY_PREFIX, JOB_QUEUE, dedupe_marks_prefix
from spokes.core.redis.pool import RedisPool
from spokes.intake.admission import Admission
from spokes.intake.classification import AdmissionEvent, ClassifiedDelivery
from spokes.intake.event_keys import EventKeys
from tests.intake.conftest import DEDUPE_TTL_S
from tests.support.events import event, recorded
from tests.support.redis_server import own_server

KEYS = EventKeys(b"secret")


def classified(*numbers: int, portal_id: int = 7) -> ClassifiedDelivery:
    """Return a delivery with the events of these numbers, under a new id."""
    elements = [event(number, portalId=portal_id) for number in numbers]
    events = [AdmissionEvent(KEYS(Event(raw)), raw["occurredAt"], raw) for raw in elements]
    return ClassifiedDelivery(new_delivery_id(portal_id), portal_id, 1795442400000, events, len(events))


def keys_of(delivery: ClassifiedDelivery) -> list[str]:
    return [event.key for event in delivery.events]


async def queued(redis: Redis) -> list[Delivery]:
    ids = [name.decode() for name in await redis.zrange(JOB_QUEUE, 0, -1)]
    jobs = [decode(await redis.get(JOB_KEY_PREFIX + name)) for name in ids]
    return [Delivery.from_job(job["a"][0]) for job in jobs]


async def queued_imports(redis: Redis) -> list[str]:
    return [name.decode() for name in await redis.zrange(IMPORT_QUEUE, 0, -1)]


async def queued_keys(redis: Redis) -> list[str]:
    return [entry.key for delivery in await queued(redis) for entry in delivery.entries]


async def test_delivery_becomes_one_job(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(1, 2, 3))
    assert [[entry.attempt for entry in delivery.entries] for delivery in await queued(redis)] == [[0, 0, 0]]


def of_imports(delivery: ClassifiedDelivery) -> ClassifiedDelivery:
    return replace(delivery, priority="import")


async def test_delivery_of_the_import_class_enters_the_queue_of_imports(redis: Redis, admission: Admission) -> None:
    delivery = of_imports(classified(1))
    await admission.admit(delivery)
    assert (await queued(redis), await queued_imports(redis)) == ([], [delivery.id])
    stored = Delivery.from_job(decode(await redis.get(JOB_KEY_PREFIX + delivery.id))["a"][0])
    assert stored.priority == "import"  # also where the events themselves do not say so


async def test_request_of_both_classes_is_stored_as_two_deliveries(redis: Redis, admission: Admission) -> None:
    interactive, imports = classified(1, 2), of_imports(classified(3))
    recorder = CallRecorder(admission)
    admitted = await admission.admit_together([interactive, imports])
    assert [keys_of(delivery) for delivery in admitted] == [keys_of(interactive), keys_of(imports)]
    assert [delivery.id for delivery in await queued(redis)] == [interactive.id]
    assert await queued_imports(redis) == [imports.id]
    assert recorder.sizes == [1]  # one call: no other can come between the two
    heads = [record for record in await recorded(redis) if record.action == "delivery.received"]
    assert [head.delivery_id for head in heads] == [interactive.id, imports.id]


async def test_known_events_of_a_request_are_dropped_in_the_delivery_that_has_them(
    redis: Redis, admission: Admission
) -> None:
    await admission.admit(classified(2, 4))
    first, second = await admission.admit_together([classified(1, 2), of_imports(classified(3, 4))])
    assert (keys_of(first), keys_of(second)) == (keys_of(classified(1)), keys_of(classified(3)))
    assert (first.duplicate_count, second.duplicate_count) == (1, 1)


async def test_event_of_both_deliveries_of_a_request_is_queued_once(redis: Redis, admission: Admission) -> None:
    first, second = await admission.admit_together([classified(1), of_imports(classified(1, 2))])
    assert (keys_of(first), keys_of(second)) == (keys_of(classified(1)), keys_of(classified(2)))


async def test_redelivered_request_of_both_classes_queues_nothing(redis: Redis, admission: Admission) -> None:
    for _ in range(2):
        await admission.admit_together([classified(1), of_imports(classified(2))])
    assert (len(await queued(redis)), len(await queued_imports(redis))) == (1, 1)


async def test_many_marks_of_both_classes_stay_known(redis: Redis, admission: Admission) -> None:
    for first in range(0, 2_000, 200):
        numbers = range(first, first + 200)
        await admission.admit_together([classified(*numbers[:100]), of_imports(classified(*numbers[100:]))])
    repeated = await admission.admit_together([classified(*range(1_000)), of_imports(classified(*range(1_000, 2_000)))])
    assert [len(delivery.events) for delivery in repeated] == [0, 0]


async def test_job_never_expires(redis: Redis, admission: Admission) -> None:
    delivery = classified(1)
    await admission.admit(delivery)
    assert await redis.ttl(JOB_KEY_PREFIX + delivery.id) == -1


async def test_job_has_its_delivery_id_and_the_time_of_enqueueing(redis: Redis, admission: Admission) -> None:
    delivery, now_ms = classified(1), time.time() * 1000
    await admission.admit(delivery)
    ((name, due_ms),) = await redis.zrange(JOB_QUEUE, 0, -1, withscores=True)
    job = decode(await redis.get(JOB_KEY_PREFIX + delivery.id))
    assert name.decode() == Delivery.from_job(job["a"][0]).id == delivery.id
    assert (due_ms % 1, abs(due_ms - now_ms) < 60_000, abs(job["et"] - now_ms) < 60_000) == (0, True, True)


async def test_redelivered_events_are_dropped_and_the_others_queued(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(1, 2))
    admitted = await admission.admit(classified(2, 3))
    assert (len(admitted.events), admitted.duplicate_count) == (1, 1)
    assert len(await queued_keys(redis)) == 3


async def test_delivery_of_known_events_queues_nothing(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(1))
    await admission.admit(classified(1))
    assert len(await queued(redis)) == 1


async def test_same_event_of_two_portals_is_two_events(admission: Admission) -> None:
    await admission.admit(classified(1, portal_id=7))
    other = await admission.admit(classified(1, portal_id=8))
    assert len(other.events) == 1


async def test_head_record_counts_the_request(redis: Redis, admission: Admission) -> None:
    await admission.admit(replace(classified(1, 2), received_count=5, ignored={"deal.merge": 3}))
    (head,) = await recorded(redis)
    assert head.detail == {"received": 5, "admitted": 2, "duplicate": 0, "ignored": {"deal.merge": 3}, "set_aside": 0}


async def test_delivery_without_events_leaves_its_head_record_and_no_job(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified())
    assert (len(await recorded(redis)), await queued(redis)) == (1, [])


def client_of(url: str) -> Redis:
    return Redis.from_pool(RedisPool.from_url(url, max_connections=10, timeout=5.0))


async def test_marks_are_kept_longer_than_hubspot_retries(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(1))
    ttls = [await redis.ttl(name) async for name in redis.scan_iter("spokes:7:seen:*")]
    assert ttls
    assert all(24 * 3600 < seconds <= DEDUPE_TTL_S + 2 * 3600 for seconds in ttls)


async def test_concurrent_duplicates_are_admitted_exactly_once(redis: Redis) -> None:
    rng = random.Random(7)
    admissions = [Admission(redis, dedupe_ttl_s=DEDUPE_TTL_S) for _ in range(3)]  # as in three web processes
    deliveries = [classified(*rng.sample(range(40), rng.randint(1, 20))) for _ in range(60)]
    await asyncio.gather(*(rng.choice(admissions).admit(delivery) for delivery in deliveries))
    expected = {key for delivery in deliveries for key in keys_of(delivery)}
    assert sorted(await queued_keys(redis)) == sorted(expected)


async def test_script_is_loaded_again_after_a_redis_restart(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(1))
    await redis.script_flush()
    await admission.admit(classified(2))
    assert len(await queued(redis)) == 2


@pytest.mark.parametrize("name", [JOB_QUEUE, AUDIT_STREAM])
async def test_key_of_another_type_refuses_before_anything_is_marked_as_known(
    redis: Redis, admission: Admission, name: str
) -> None:
    await redis.set(name, "not ours")
    with pytest.raises(QueueUnavailable):
        await admission.admit(classified(1))
    await redis.delete(name)
    await admission.admit(classified(1))
    assert await queued_keys(redis) == keys_of(classified(1))


async def test_redis_user_without_channels_can_admit(tmp_path: Path) -> None:
    async with own_server(tmp_path) as (url, redis):
        await redis.execute_command("ACL", "SETUSER", "user", "on", ">right", "~*", "resetchannels", "+@all")
        async with client_of(url.replace("//", "//user:right@")) as client:
            admission = Admission(client, dedupe_ttl_s=DEDUPE_TTL_S)
            await admission.admit(classified(1))
            await admission.close()
        assert await redis.zcard(JOB_QUEUE) == 1


async def test_unreachable_redis_fails_every_waiting_request() -> None:
    admission = Admission(client_of("redis://127.0.0.1:1"), dedupe_ttl_s=DEDUPE_TTL_S)
    results = await asyncio.gather(*(admission.admit(classified(n)) for n in range(5)), return_exceptions=True)
    assert all(isinstance(result, QueueUnavailable) for result in results)


async def test_full_redis_refuses_and_stores_nothing(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(1))
    await redis.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(QueueUnavailable):
            await admission.admit(classified(2))
    finally:
        await redis.config_set("maxmemory", "0")
    retried = await admission.admit(classified(2))
    assert len(retried.events) == 1


async def test_lost_response_followed_by_a_redelivery_admits_once(redis: Redis, admission: Admission) -> None:
    delivery = classified(1)
    await admission.admit(delivery)  # suppose its response was lost, and HubSpot sends the event again
    await admission.admit(classified(1))
    assert await queued_keys(redis) == keys_of(delivery)


class CallRecorder:
    """Records the script calls of an admission. With `hold`, replies wait until `go` is set."""

    def __init__(self, admission: Admission, *, hold: bool = False, reply: object = None) -> None:
        self.calls: list[tuple[Sequence[object], ...]] = []
        self.go = asyncio.Event()
        if not hold:
            self.go.set()
        call = admission._lines.call

        async def record_call(*commands: Sequence[Any]) -> list[object]:
            self.calls.append(commands)
            await self.go.wait()
            if isinstance(reply, Exception):
                raise reply
            return [*await call(commands[0]), reply] if reply else await call(*commands)

        admission._lines.call = record_call  # type: ignore[method-assign]  # wraps the real one

    @property
    def sizes(self) -> list[object]:
        """The number of requests of each call."""
        return [commands[0][8] for commands in self.calls]


async def run_ready_tasks() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_first_delivery_takes_one_call(admission: Admission) -> None:
    recorder = CallRecorder(admission)
    await admission.admit(classified(1))
    assert recorder.sizes == [1]


async def test_delivery_of_the_same_turn_of_the_event_loop_joins_the_call(admission: Admission) -> None:
    recorder = CallRecorder(admission)

    async def admit_later() -> None:
        await asyncio.sleep(0)
        await admission.admit(classified(2))

    await asyncio.gather(admission.admit(classified(1)), admit_later())
    assert recorder.sizes == [2]


async def test_concurrent_deliveries_share_calls_of_up_to_two_hundred_events(
    redis: Redis, admission: Admission
) -> None:
    recorder = CallRecorder(admission)
    await asyncio.gather(*(admission.admit(classified(number)) for number in range(250)))
    assert (recorder.sizes, len(await queued(redis))) == ([200, 50], 250)


async def test_size_of_a_call_counts_events_and_not_deliveries(redis: Redis, admission: Admission) -> None:
    recorder = CallRecorder(admission)
    await asyncio.gather(*(admission.admit(classified(*range(first, first + 100))) for first in (0, 100, 200)))
    assert (recorder.sizes, len(await queued(redis))) == ([2, 1], 3)


async def test_deliveries_wait_for_the_call_in_flight_unless_they_fill_a_group_and_six_calls_are_the_most(
    redis: Redis, admission: Admission
) -> None:
    await admission.admit(classified(10_000))  # opens the connection and loads the script
    recorder = CallRecorder(admission, hold=True)
    waiting: list[asyncio.Task[ClassifiedDelivery]] = []
    sizes: list[list[object]] = []
    for count in (1, 79, 1, 80, 80, 80, 80, 80):
        first = len(waiting)
        waiting += [asyncio.create_task(admission.admit(classified(first + number))) for number in range(count)]
        await run_ready_tasks()
        sizes.append(recorder.sizes)
    calls = [1, 80, 80, 80, 80, 80]
    assert sizes == [calls[:count] for count in (1, 1, 2, 3, 4, 5, 6, 6)]
    recorder.go.set()
    await asyncio.gather(*waiting)
    assert len(await queued(redis)) == len(waiting) + 1


async def test_requests_that_follow_when_a_call_ends_are_sent(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(10_000))  # opens the connection and loads the script
    recorder = CallRecorder(admission, hold=True)

    async def admit_two(first: int) -> None:
        await admission.admit(classified(first))
        await admission.admit(classified(first + 1))

    tasks = [asyncio.create_task(admit_two(number)) for number in (1, 3)]
    await run_ready_tasks()
    recorder.go.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks)
    assert len(await queued(redis)) == 5


async def test_programming_error_is_not_taken_for_an_outage(admission: Admission) -> None:
    CallRecorder(admission, reply=ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        await admission.admit(classified(1))


async def test_fault_in_a_call_fails_every_delivery_of_its_group(admission: Admission) -> None:
    recorder = CallRecorder(admission, reply=ZeroDivisionError())
    results = await asyncio.gather(*(admission.admit(classified(n)) for n in (1, 2)), return_exceptions=True)
    assert recorder.sizes == [2]
    assert [type(result) for result in results] == [ZeroDivisionError, ZeroDivisionError]


async def test_delivery_submitted_while_a_call_ends_is_sent(
    admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    await admission.admit(classified(10_000))  # opens the connection and loads the script
    gate = asyncio.Event()

    async def call(*commands: Sequence[Any]) -> list[object]:
        await gate.wait()
        return [[[] for _ in range(commands[0][8])]]

    monkeypatch.setattr(admission._lines, "call", call)

    async def admit_when_the_call_ends() -> None:
        await gate.wait()
        await admission.admit(classified(3))

    tasks = []
    for work in (admission.admit(classified(1)), admission.admit(classified(2)), admit_when_the_call_ends()):
        tasks.append(asyncio.create_task(work))
        await asyncio.sleep(0.01)  # each reaches the gate before the next
    gate.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks)


async def test_redis_that_always_lacks_the_script_is_called_twice(admission: Admission) -> None:
    recorder = CallRecorder(admission, reply=NoScriptError())
    with pytest.raises(QueueUnavailable):
        await admission.admit(classified(1))
    assert len(recorder.calls) == 2


@pytest.mark.parametrize(("durable", "waits"), [(False, ()), (True, (("WAITAOF", 1, 0, 3_000),))])
async def test_only_a_durable_admission_waits_for_the_disk(redis: Redis, durable: bool, waits: tuple[object]) -> None:
    options = {"durable": True} if durable else {}
    admission = Admission(redis, dedupe_ttl_s=DEDUPE_TTL_S, **options)  # type: ignore[arg-type]  # a dict has no types
    recorder = CallRecorder(admission)
    await admission.admit(classified(1))
    assert recorder.calls[0][1:] == waits


async def test_durable_admission_refuses_when_the_disk_is_too_slow(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=DEDUPE_TTL_S, durable=True)
    CallRecorder(admission, reply=[0, 1])  # Redis synced no file of its own in time
    with pytest.raises(QueueUnavailable) as refused:
        await admission.admit(classified(1))
    assert refused.value.reason == "disk_too_slow"


@pytest.mark.parametrize(
    ("options", "seconds"), [({}, 5.0), ({"timeout_s": 2.0}, 2.0), ({"timeout_s": 2.0, "durable": True}, 5.0)]
)
def test_call_may_take_the_timeout_and_three_seconds_more_for_the_disk(options: dict[str, Any], seconds: float) -> None:
    assert Admission(client_of("redis://"), dedupe_ttl_s=DEDUPE_TTL_S, **options)._lines._timeout_s == seconds


HOUR = 1_795_442_400_000 // 3_600_000


def at_hours(*hours: int) -> ClassifiedDelivery:
    """Return a delivery with one event for each hour."""
    elements = [event(100 + number, portalId=7, occurredAt=hour * 3_600_000) for number, hour in enumerate(hours)]
    events = [AdmissionEvent(KEYS(Event(raw)), raw["occurredAt"], raw) for raw in elements]
    return ClassifiedDelivery(new_delivery_id(7), 7, 1795442400000, events, len(events))


@pytest.mark.parametrize("suffix", ["n", "0"])
@pytest.mark.parametrize("hours", [(HOUR,), (HOUR - 1, HOUR), (HOUR, HOUR - 1)])
async def test_delivery_is_admitted_wholly_or_not_at_all_if_a_key_of_its_marks_has_another_type(
    redis: Redis, admission: Admission, suffix: str, hours: tuple[int, ...]
) -> None:
    await redis.lpush(dedupe_marks_prefix(7, HOUR) + suffix, "x")  # type: ignore[misc]  # redis-py types one class for sync and async
    delivery = at_hours(*hours)
    with pytest.raises(QueueUnavailable) as refused:
        await admission.admit(delivery)
    assert (refused.value.reason, await queued(redis), await redis.xlen(AUDIT_STREAM)) == (
        "dedupe_marks_refused",
        [],
        0,
    )
    await redis.delete(dedupe_marks_prefix(7, HOUR) + suffix)
    admitted = await admission.admit(delivery)
    assert (admitted.duplicate_count, len(await queued_keys(redis))) == (0, len(hours))


async def test_set_of_another_type_among_many_refuses_its_own_marks_only(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(*range(1000)))
    prefix = dedupe_marks_prefix(7, event(1)["occurredAt"] // 3_600_000)
    await redis.delete(prefix + "1")
    await redis.lpush(prefix + "1", "x")  # type: ignore[misc]  # as above
    results = await asyncio.gather(
        *(admission.admit(classified(number)) for number in range(1000, 2000)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, QueueUnavailable)]
    assert 0 < len(refused) < 600
    assert len(await queued_keys(redis)) == 2000 - len(refused)
    assert len(refused) + sum(isinstance(result, ClassifiedDelivery) for result in results) == 1000


async def test_wrong_marks_of_one_delivery_do_not_concern_the_others_of_its_group(
    redis: Redis, admission: Admission
) -> None:
    await redis.lpush(dedupe_marks_prefix(7, HOUR - 5) + "0", "x")  # type: ignore[misc]  # as above
    results = await asyncio.gather(
        *(admission.admit(delivery) for delivery in (classified(1), at_hours(HOUR - 5), classified(2))),
        return_exceptions=True,
    )
    assert [isinstance(result, QueueUnavailable) for result in results] == [False, True, False]
    assert len(await queued_keys(redis)) == 2
