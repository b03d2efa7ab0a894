"""What ends in the right state whatever comes: bursts, merges, own writes, pauses, crashes, unreadable jobs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from spokes.core import clock
from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, Delivery, Entry, job_payload, new_delivery_id
from spokes.core.errors import ObjectNotFound, RetryLater
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage, is_outage
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.intake.event_keys import EventKeys
from spokes.queue.dead_letters import DeadLetters
from spokes.queue.portal_pauses import OPERATOR, CircuitBreaker, PortalPauses
from spokes.routing import Router, uses
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import Latency, PortalConfig, SimulatorConfig
from spokes.simulator.crm.records import CrmRecord
from spokes.tools import Tools
from tests.support.deployment import TOKEN
from tests.support.events import event, recorded
from workers.delivery.delivery_run import DeliveryRun
from workers.delivery.lanes import Lane
from workers.delivery.resolution import LEASE_LOST
from workers.delivery.run_delivery import DeliveryRunner, process_delivery
from workers.queue.leases import Lease

PORTAL = 50112233
KEYS = EventKeys(b"secret")
Calls = list[tuple[str, str | None, str | None, int]]


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))) as simulator:
        yield simulator


class Bench:
    """A processor with a handler that tells what it got, and does what a test asks."""

    def __init__(self, settings: Settings, redis: Redis, crm: CRM) -> None:
        self.redis = redis
        self.crm = crm
        self.calls: Calls = []
        self.errors: list[Exception] = []
        router = Router()

        @router.register("contact.propertyChange")
        @router.register("contact.creation")
        @router.register("contact.deletion")
        @router.register("contact.restore")
        @router.register("contact.merge")
        async def take(event: Event, tools: Tools) -> None:
            self.calls.append((event.survivor_id, tools.oldest_value, event.property_value, tools.coalesced_count))
            if self.errors:
                raise self.errors.pop(0)

        @router.register("contact.propertyChange", property="each")
        @uses(each_event=True)
        async def take_each(event: Event, tools: Tools) -> None:
            self.calls.append((event.object_id, tools.oldest_value, event.property_value, tools.coalesced_count))

        @router.register("contact.propertyChange", property="slow")
        async def wait(event: Event, tools: Tools) -> None:
            await asyncio.sleep(30)

        self.router = router
        self.circuit = PortalPauses(redis)
        self.processor = DeliveryRunner(settings, redis, router, crm, self.circuit, holder="me", outage=RedisOutage())

    async def queue(self, *raws: dict[str, object]) -> Delivery:
        entries = tuple(Entry(KEYS(Event(raw)), 0, raw) for raw in raws)
        delivery = Delivery(new_delivery_id(PORTAL), PORTAL, 1, entries)
        await self.redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, 1))
        await self.redis.zadd(JOB_QUEUE, {delivery.id: 1})
        return delivery

    async def work(self, *deliveries: tuple[dict[str, object], ...], job_try: int = 1) -> None:
        queued = [await self.queue(*raws) for raws in deliveries]
        await asyncio.gather(*(self.processor.run(delivery, job_try) for delivery in queued))

    async def outcomes(self) -> list[tuple[str, str]]:
        records = await recorded(self.redis)
        return [(record.outcome.value, record.reason) for record in records if record.outcome]


@pytest.fixture
async def bench(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> AsyncIterator[Bench]:
    settings = Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url, "HANDLER_TIMEOUT_S": "0.4"})
    crm = await CRM.open(settings, redis)
    bench = Bench(settings, redis, crm)
    yield bench
    await bench.processor.close()
    await crm.close()


def change(value: str, at: int, name: str = "city", object_id: int = 1, **fields: object) -> dict[str, object]:
    told = {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": value}
    return event(objectId=object_id, occurredAt=at, **{**told, **fields})


def about(kind: str, object_id: int, at: int = 1, **fields: object) -> dict[str, object]:
    return event(objectId=object_id, occurredAt=at, subscriptionType=f"contact.{kind}", **fields)


def merge(survivor: int, *losers: int, at: int = 5) -> dict[str, object]:
    return about("merge", survivor, at, primaryObjectId=survivor, mergedObjectIds=list(losers))


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)


async def test_burst_within_a_delivery_reaches_the_handler_once(bench: Bench) -> None:
    await bench.work((change("a", 1), change("c", 3), change("b", 2)))
    assert bench.calls == [("1", "a", "c", 2)]
    assert sorted(outcome for outcome, _ in await bench.outcomes()) == ["coalesced", "coalesced", "processed"]


async def test_burst_over_waiting_deliveries_reaches_the_handler_once(bench: Bench) -> None:
    await bench.work(*((change(str(at), at),) for at in range(1, 6)))
    assert bench.calls == [("1", "1", "5", 4)]


async def test_burst_that_waits_for_another_process_reaches_the_handler_once(bench: Bench, redis: Redis) -> None:
    """Deliveries look again for their object each in its own time; the first that gets it takes the others along."""
    lane = keys.lane(PORTAL, "contact", "1")
    await redis.set(lane, "another:1", px=60_000)
    working = []
    for at in range(1, 6):
        working.append(asyncio.create_task(bench.work((change(str(at), at),))))
        await until(lambda at=at: len(bench.processor._lane_manager._waiting.get(lane, ())) == at)  # type: ignore[misc]  # mypy knows no lambda with a default
    await redis.delete(lane)
    await asyncio.gather(*working)
    assert bench.calls == [("1", "1", "5", 4)]
    assert bench.processor._lane_manager._waiting == {}


async def test_event_that_has_waited_long_enough_for_another_process_is_put_off(bench: Bench, redis: Redis) -> None:
    await redis.set(keys.lane(PORTAL, "contact", "1"), "another:1", px=60_000)
    await bench.work((change("a", 1), change("b", 2, object_id=2)))
    assert sorted(await bench.outcomes()) == [("parked", "object_busy"), ("processed", "")]
    assert bench.processor._lane_manager._waiting == {}


@pytest.mark.parametrize("settled", ["", "an event's key"])
async def test_event_that_is_put_off_while_another_takes_it_along_is_left_alone(
    bench: Bench, redis: Redis, settled: str
) -> None:
    processor, lane = bench.processor, keys.lane(PORTAL, "contact", "1")
    begin, ask = processor._lane_manager, processor._lane_manager._script
    late, other = [
        DeliveryRun(await bench.queue(change(value, at)), processor._settlement, processor._settings, crash_loop=False)
        for at, value in enumerate(("late", "other"), 1)
    ]
    if settled:
        await redis.sadd(keys.settled_events(PORTAL, late.delivery.id), settled)
    await redis.set(lane, "another:1", px=60_000)
    assert await begin.acquire(late, late.items) == late.items
    await redis.delete(lane)

    async def answered_late(args: list[str | int]) -> Any:
        answer = await ask(args=args)
        late.postpone(begin.cancel_waiting(late.items), LEASE_LOST)
        return answer

    begin._script = answered_late  # type: ignore[assignment]
    await begin.acquire(other, other.items)
    async with asyncio.timeout(20):
        assert [await run.finished() for run in (late, other)] == [True, True]
    assert [call[2] for call in bench.calls] == ["other"]
    assert [outcome for outcome, _ in await bench.outcomes()] == ["parked", "processed"]
    assert late._remaining == 0


async def test_handler_that_asks_for_each_event_gets_each(bench: Bench) -> None:
    await bench.work((change("a", 1, "each"), change("b", 2, "each")))
    assert [call[2] for call in bench.calls] == ["a", "b"]


async def test_withheld_value_is_read_through_and_the_audit_says_so(
    bench: Bench, hubspot: Simulator, redis: Redis
) -> None:
    one = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"phone": "+14155552671"}, USER)
    read: list[tuple[str | None, str]] = []

    @bench.router.register("contact.propertyChange", property="phone")
    @uses(reads={"contacts": ("phone",)})
    async def read_phone(event: Event, tools: Tools) -> None:
        read.append((event.property_value, (await tools.crm.contacts.get(event.object_id))["phone"]))

    plain = change("+14155552671", 1, "phone", int(one.id))
    await bench.work((plain, change("REDACTED", 2, "phone", int(one.id)), change("REDACTED", 3, "city", int(one.id))))
    records = await recorded(redis)
    assert read == [(None, "+14155552671")]
    assert [record.detail for record in records] == [{}, {"read": ["phone"]}, {}]  # the first spoken for by the second


async def test_failing_event_keeps_those_it_speaks_for(bench: Bench) -> None:
    bench.errors = [RetryLater()]
    await bench.work((change("a", 1), change("b", 2)))
    assert sorted(outcome for outcome, _ in await bench.outcomes()) == ["parked", "retried"]


async def test_failing_object_lets_others_flow(bench: Bench) -> None:
    bench.errors = [RetryLater()]
    await bench.work((change("a", 1), change("b", 1, object_id=2), change("c", 1, object_id=3)))
    assert sorted(outcome for outcome, _ in await bench.outcomes()) == ["processed", "processed", "retried"]


async def test_restoring_undoes_a_deletion_that_comes_late(bench: Bench) -> None:
    await bench.work((about("restore", 1, at=9),))
    await bench.work((about("deletion", 1, at=5),))
    assert (await bench.outcomes())[-1] == ("superseded", "newer_change_applied")


async def test_event_of_a_merged_record_is_run_on_the_survivor(bench: Bench) -> None:
    await bench.work((merge(2, 1),))
    await bench.work((change("x", 9),))
    assert bench.calls[-1][0] == "2"


async def test_detail_of_an_event_of_a_merged_record_does_not_name_it(bench: Bench, redis: Redis) -> None:
    """The chain covers the detail, so no erasure could take the id out again."""
    await bench.work((merge(2, 318845123451),))
    await bench.work((change("x", 9, object_id=318845123451),))
    details = [one.detail for one in await recorded(redis)]
    assert [detail for detail in details if "318845123451" in str(detail)] == []
    assert any(detail.get("merged") for detail in details)


async def test_merge_beside_other_events_comes_first(bench: Bench) -> None:
    await bench.work((change("x", 1), merge(2, 1)))
    assert {call[0] for call in bench.calls} == {"2"}


async def test_chain_of_merges_is_followed_to_its_end_in_any_order(bench: Bench) -> None:
    await bench.work((merge(3, 2),))
    await bench.work((merge(2, 1),))
    await bench.work((change("x", 9),))
    assert bench.calls[-1][0] == "3"


async def test_deletion_of_a_merged_record_folds_into_the_merge(bench: Bench) -> None:
    await bench.work((merge(2, 1), about("deletion", 1, at=6)))
    assert ("merged", "record_merged_away") in await bench.outcomes()


async def test_newest_truth_of_a_merged_record_counts_for_the_survivor(bench: Bench) -> None:
    await bench.work((change("new", 8),))
    await bench.work((merge(2, 1, at=9),))
    await bench.work((change("old", 7, object_id=2),))
    assert (await bench.outcomes())[-1][0] == "superseded"


async def test_effects_of_a_merged_record_count_for_the_survivor(bench: Bench, redis: Redis) -> None:
    await redis.hset(keys.once_effects(PORTAL, "contact", "1"), "note", "100")
    await redis.expire(keys.once_effects(PORTAL, "contact", "1"), 100)
    await redis.set(keys.once_effects(PORTAL, "contact", "1") + ":note", 1, ex=20)
    await bench.work((merge(2, 1),))
    assert await redis.hget(keys.once_effects(PORTAL, "contact", "2"), "note") == b"100"
    assert 0 < await redis.ttl(keys.once_effects(PORTAL, "contact", "2") + ":note") <= 20


async def test_record_that_is_gone_because_it_was_merged_is_tried_as_the_survivor(bench: Bench) -> None:
    await bench.processor._merge_map.record([Event(merge(2, 1))])
    await bench.redis.delete(keys.has_merges(PORTAL))  # as if the merge had been learned only after the event began
    bench.errors = [ObjectNotFound(status=404)]
    await bench.work((change("x", 9),))
    assert await bench.outcomes() == [("parked", "record_merged_away")]


async def test_value_of_a_merged_record_is_not_told_as_the_survivors(bench: Bench) -> None:
    await bench.work((merge(2, 1),))
    await bench.work((change("the loser's", 9),))
    assert bench.calls[-1][:3] == ("2", "", "")


async def test_dead_letter_of_a_record_that_turns_out_merged_lives_again(bench: Bench, redis: Redis) -> None:
    bench.errors = [ObjectNotFound(status=404)]
    await bench.work((change("x", 9),))
    await bench.work((merge(2, 1),))
    assert [letter async for letter in DeadLetters(redis).list(PORTAL)] == []
    assert ("replayed", "record_merged_away") in await bench.outcomes()


async def test_event_whose_merge_is_told_while_its_death_is_being_written_lives_on(bench: Bench) -> None:
    """Whoever learned the merge has looked for its letter by then, and found none."""
    merges = bench.processor._merge_map
    survivor = merges.surviving_id

    async def told_right_after(one: Event) -> str:
        found = await survivor(one)
        await merges.record([Event(merge(2, 1))])
        return found

    merges.surviving_id = told_right_after  # type: ignore[method-assign]  # what another worker may do at this moment
    bench.errors = [ObjectNotFound(status=404)]
    await bench.work((change("x", 9),))
    assert await bench.outcomes() == [("parked", "record_merged_away")]


async def test_circle_of_merges_ends(bench: Bench) -> None:
    await bench.work((merge(2, 1), merge(1, 2)))
    await bench.work((change("x", 9),))
    assert len(bench.calls) == 3


async def test_normalised_own_write_is_an_echo(bench: Bench) -> None:
    await bench.crm.own_writes.record_write(PORTAL, "contact", "1", {"city": " Berlin "})
    await bench.work((change("berlin", 9, changeSource="INTEGRATION"),))
    assert await bench.outcomes() == [("echo", "own_write")]


async def test_change_by_our_app_of_what_we_wrote_is_an_echo(bench: Bench) -> None:
    await bench.crm.own_writes.record_write(PORTAL, "contact", "1", {"city": "Berlin"})
    await bench.work((change("BLN", 9, changeSource="INTEGRATION", sourceId="7788990"),))
    assert await bench.outcomes() == [("echo", "own_write")]


async def test_own_write_coming_back_does_not_supersede_a_change_that_was_made_before_it(bench: Bench) -> None:
    await bench.crm.own_writes.record_write(PORTAL, "contact", "1", {"city": "Berlin"})
    await bench.work((change("Berlin", 9, changeSource="INTEGRATION"),))
    await bench.work((change("Bonn", 8),))
    assert [call[2] for call in bench.calls] == ["Bonn"]


async def test_change_made_before_our_reading_is_superseded_by_what_we_wrote(bench: Bench, hubspot: Simulator) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)

    @bench.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.update",))
    async def write(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})

    now_ms = clock.now_ms()
    object_id = int(contact.id)
    await bench.work((change("x", now_ms, "written", object_id),))
    await bench.work((change("before", now_ms - 60_000, object_id=object_id),))
    await bench.work((change("after", now_ms + 60_000, object_id=object_id),))
    assert [outcome for outcome, _ in await bench.outcomes()] == ["processed", "superseded", "processed"]
    assert [call[2] for call in bench.calls] == ["after"]


async def test_mark_of_what_was_applied_is_not_put_back_by_a_write_that_was_read_before(
    bench: Bench, hubspot: Simulator
) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)

    @bench.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.update",))
    async def write(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})

    now_ms, object_id = clock.now_ms(), int(contact.id)
    await bench.work((change("newest", now_ms + 60_000, object_id=object_id),))
    await bench.work((change("x", now_ms, "written", object_id),))
    await bench.work((change("older", now_ms + 30_000, object_id=object_id),))
    assert [outcome for outcome, _ in await bench.outcomes()] == ["processed", "processed", "superseded"]


async def test_event_that_is_superseded_leaves_the_mark_of_what_superseded_it(bench: Bench, redis: Redis) -> None:
    begin = bench.processor._lane_manager._apply_answer

    def known(*given: Any) -> list[Any]:
        busy = begin(*given)
        for lane in bench.processor._lane_manager.held.values():
            lane.newest_applied["city"] = (
                9  # applied by a run that had lost its delivery to another, and could not settle it
            )
        return busy

    bench.processor._lane_manager._apply_answer = known  # type: ignore[method-assign]
    await bench.work((change("older", 5),))
    assert await redis.hgetall(keys.newest_timestamps(PORTAL, "contact", "1")) == {b"city": b"9"}  # type: ignore[misc]  # redis-py types one class for sync and async


@pytest.fixture
def shouted(bench: Bench, hubspot: Simulator) -> CrmRecord:
    """A contact whose city is written back in capitals, as it stands: by what is there, or by what an event tells."""

    @bench.router.register("contact.propertyChange", property="city")
    @uses(reads={"contacts": ("city",)}, may=("contacts.update",))
    async def shout(event: Event, tools: Tools) -> None:
        contact = await tools.crm.contacts.get(event.object_id)
        city = (await tools.current_value(contact, "city")).upper()
        if city != contact["city"]:
            await tools.crm.contacts.update(event.object_id, {"city": city})

    return hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)


async def test_change_that_is_worked_on_late_does_not_stand_over_a_newer_one(bench: Bench, shouted: CrmRecord) -> None:
    now_ms, object_id = clock.now_ms(), int(shouted.id)
    await bench.work((change("Aachen", now_ms - 60_000, object_id=object_id),))
    assert shouted.properties["city"] == "BONN"
    await bench.work((change("Bonn", now_ms - 30_000, object_id=object_id),))
    assert [outcome for outcome, _ in await bench.outcomes()] == ["processed", "superseded"]


async def test_change_just_before_what_was_read_is_superseded_by_what_was_written(
    bench: Bench, shouted: CrmRecord
) -> None:
    read_ms, object_id = shouted.updated_at_ms, int(shouted.id)
    await bench.work((change("Aachen", read_ms - 200, object_id=object_id),))
    await bench.work((change("Berlin", read_ms - 100, object_id=object_id),))
    assert [outcome for outcome, _ in await bench.outcomes()] == ["processed", "superseded"]
    assert shouted.properties["city"] == "BONN"


async def test_changes_beneath_our_own_write_are_all_run_and_the_newest_stands(
    bench: Bench, shouted: CrmRecord
) -> None:
    now_ms, object_id = clock.now_ms(), int(shouted.id)
    await bench.crm.own_writes.record_write(PORTAL, "contact", shouted.id, {"city": "Bonn"})
    await bench.work((change("Aachen", now_ms - 60_000, object_id=object_id),))
    assert shouted.properties["city"] == "AACHEN"
    await bench.work((change("Berlin", now_ms - 30_000, object_id=object_id),))
    assert shouted.properties["city"] == "BERLIN"


async def test_of_two_changes_of_one_millisecond_the_one_that_is_there_stands(
    bench: Bench, shouted: CrmRecord, hubspot: Simulator
) -> None:
    hubspot.crm.update(shouted, {"city": "Berlin"}, USER)
    at_ms, object_id = shouted.updated_at_ms, int(shouted.id)
    for city in ("Berlin", "Aachen"):
        await bench.work((change(city, at_ms, object_id=object_id),))
    assert [outcome for outcome, _ in await bench.outcomes()] == ["processed", "processed"]
    assert shouted.properties["city"] == "BERLIN"


async def test_change_beneath_our_own_write_stands_though_its_record_was_merged_meanwhile(
    bench: Bench, shouted: CrmRecord, hubspot: Simulator
) -> None:
    crm, now_ms = hubspot.crm, clock.now_ms()
    crm.update(shouted, {"city": "BONN"}, USER)
    await bench.crm.own_writes.record_write(PORTAL, "contact", shouted.id, {"city": "BONN"})
    other = crm.create(crm.types.resolve("contacts"), {"city": "Ulm"}, USER)
    survivor = crm.merge(shouted, other, USER)
    await bench.work((merge(int(survivor.id), int(shouted.id), int(other.id)),))
    await bench.work((change("Ulm", now_ms - 60_000, object_id=int(other.id)),))
    assert survivor.properties["city"] == "BONN"
    await bench.work((change("Aachen", now_ms + 30_000, object_id=int(shouted.id)),))
    assert survivor.properties["city"] == "AACHEN"


async def test_redis_going_away_within_a_turn_puts_its_event_off_and_ends_the_delivery(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(event: Event) -> bool:
        raise RedisTimeoutError

    monkeypatch.setattr(bench.processor._dispatcher._rewrite_loops, "is_loop", away)
    async with asyncio.timeout(10):
        await bench.work((change("x", 1),))
    assert await bench.outcomes() == [("parked", "redis_away")]


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("MISCONF Errors writing to the AOF file: File too large", True),
        ("Command # 1 (SET k 1 EX 9) of pipeline caused error: MISCONF Errors writing to the AOF file", True),
        ("Command # 2 (HSET k OOM 1) of pipeline caused error: WRONGTYPE Operation against a key", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
    ],
)
def test_redis_whose_memory_or_disk_is_full_is_waited_for(text: str, away: bool) -> None:
    assert is_outage(ResponseError(text)) is away


async def test_object_whose_lease_has_run_out_is_left_to_whoever_has_it_now(bench: Bench) -> None:
    begin = bench.processor._lane_manager._apply_answer

    def long_ago(*given: Any) -> list[Any]:
        return begin(*given[:-1], time.monotonic() - 1)

    bench.processor._lane_manager._apply_answer = long_ago  # type: ignore[method-assign]
    await bench.work((change("x", 1),))
    assert (bench.calls, await bench.outcomes()) == ([], [("parked", "lease_lost")])


async def test_lease_that_runs_out_while_a_handler_works_keeps_it_from_writing(
    bench: Bench, hubspot: Simulator
) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)

    @bench.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.update",))
    async def write(event: Event, tools: Tools) -> None:
        for lane in bench.processor._lane_manager.held.values():
            lane.lease_until = 0.0
        await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})

    await bench.work((change("x", 1, "written", int(contact.id)),))
    assert await bench.outcomes() == [("parked", "lease_lost")]
    assert contact.properties["city"] == "Bonn"


async def test_lane_stays_leased_until_what_was_done_in_it_is_settled(bench: Bench) -> None:
    settlement = bench.processor._settlement
    carry_out, asked, go = settlement._group_commit._commit, asyncio.Event(), asyncio.Event()

    async def slowly(asks: list[Any]) -> Any:
        asked.set()
        await go.wait()
        return await carry_out(asks)

    settlement._group_commit._commit = slowly
    work = asyncio.create_task(bench.work((change("x", 1),)))
    await asked.wait()
    await asyncio.sleep(0.05)
    leased = [lease.key for lease in bench.processor.leases()]
    go.set()
    await work
    assert (leased, bench.processor.leases()) == ([keys.lane(PORTAL, "contact", "1")], [])


@pytest.mark.parametrize("change_it", ["update", "merge"])
async def test_lease_that_runs_out_while_a_change_waits_for_its_place_keeps_it_from_leaving(
    bench: Bench, hubspot: Simulator, monkeypatch: pytest.MonkeyPatch, change_it: str
) -> None:
    contact, other = (hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER) for _ in "12")
    calls = bench.crm._queues.client
    send_late = calls.send_when_granted

    async def after_a_long_wait(*given: Any) -> Any:
        for lane in bench.processor._lane_manager.held.values():
            lane.lease_until = 0.0
        return await send_late(*given)

    monkeypatch.setattr(calls, "send_when_granted", after_a_long_wait)

    @bench.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.update", "contacts.merge"))
    async def write(event: Event, tools: Tools) -> None:
        if change_it == "update":
            await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})
        else:
            await tools.crm.contacts.merge(event.object_id, other.id)

    await bench.work((change("x", 1, "written", int(contact.id)),))
    assert await bench.outcomes() == [("parked", "lease_lost")]
    assert (contact.properties["city"], [call.writes for call in hubspot.requests if call.writes]) == ("Bonn", [])
    kept = await bench.crm.own_writes.basis_of_write(PORTAL, "contact", contact.id, "city", "Berlin")
    assert (kept is not None) is (change_it == "update")  # another may have written just that, and the entry is its own


async def test_heartbeat_moves_the_end_of_a_lease_that_is_still_ours(bench: Bench) -> None:
    lane = bench.processor._lane_manager.held["lane"] = Lane("lane", "me:1", 5.0)
    bench.processor.lease_renewed(Lease("lane", "another:1"), 9.0)
    assert lane.lease_until == 5.0
    bench.processor.lease_renewed(Lease("lane", "me:1"), 9.0)
    assert lane.lease_until == 9.0


async def test_handler_that_takes_too_long_is_cancelled_and_tried_again(bench: Bench) -> None:
    await bench.work((change("x", 1, "slow"), change("y", 1, object_id=2)))
    assert sorted(await bench.outcomes()) == [("processed", ""), ("retried", "handler_timeout")]


async def test_handler_is_not_cancelled_while_hubspot_is_changing_something_for_it(
    bench: Bench, hubspot: Simulator
) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)
    hubspot.faults.add(Fault(method="PATCH", latency=Latency(1000.0, 1000.0)))

    @bench.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.update",))
    async def write(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})

    await bench.work((change("x", 1, "written", int(contact.id)),))
    assert await bench.outcomes() == [("processed", "")]
    assert len(hubspot.requests.find(method="PATCH")) == 1


async def test_handler_is_not_cancelled_before_what_it_made_is_known_to_be_ours(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    @bench.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.create",))
    async def write(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.create({"city": "Berlin"})

    async def slow(*given: object) -> None:
        await asyncio.sleep(1.0)

    monkeypatch.setattr(bench.crm.own_writes, "record_write", slow)
    await bench.work((change("x", 1, "written"),))
    assert await bench.outcomes() == [("processed", "")]


async def test_handler_that_goes_on_too_long_after_a_change_is_cancelled_all_the_same(
    bench: Bench, hubspot: Simulator
) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)

    @bench.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.update",))
    async def write(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})
        await asyncio.sleep(30)

    await bench.work((change("x", 1, "written", int(contact.id)),))
    assert await bench.outcomes() == [("retried", "handler_timeout")]


async def test_paused_portal_is_not_worked_on(bench: Bench) -> None:
    await bench.circuit.pause(PORTAL, OPERATOR)
    await bench.work((change("x", 1),))
    assert (bench.calls, await bench.outcomes()) == ([], [("parked", "portal_paused")])


async def test_crash_loop_ends(bench: Bench) -> None:
    (key,) = (KEYS(Event(raw)) for raw in [change("x", 1)])
    await bench.redis.set(keys.crash_count(PORTAL, key), 2)
    await bench.work((change("x", 1),), job_try=4)
    assert await bench.outcomes() == [("dead", "crash_loop")]


async def test_delivery_whose_workers_died_is_taken_apart(bench: Bench, redis: Redis) -> None:
    await bench.work((change("x", 1), change("y", 1, object_id=2)), job_try=4)
    assert (await redis.zcard(JOB_QUEUE), await bench.outcomes()) == (2, [("parked", "worker_died")] * 2)


@pytest.mark.parametrize("job", [{"unreadable": "gARwaWNrbGU="}, {"id": 1}, [1, 2], "text", None])
async def test_unreadable_job_is_kept_recorded_and_not_run(bench: Bench, redis: Redis, job: Any) -> None:
    ctx = {"processor": bench.processor, "redis": redis, "job_id": "50112233-1-a", "job_try": 1}
    assert not await process_delivery(ctx, job)
    assert (await redis.llen(keys.UNREADABLE_JOBS), await bench.outcomes()) == (1, [("dead", "unreadable_delivery")])


def test_breaker_opens_after_failures_apart_and_closes_with_an_answer() -> None:
    breaker = CircuitBreaker()
    assert [breaker.record_failure(1, now) for now in (0.0, 0.5, 2.0, 4.0, 6.0, 8.0)] == [False] * 5 + [True]
    breaker.record_success(1)
    assert not breaker.record_failure(1, 10.0)


async def test_pause_ends_when_the_probe_succeeds(redis: Redis) -> None:
    answers = SimpleNamespace(good=False)

    async def probe() -> bool:
        return answers.good

    circuit = PortalPauses(redis, probe)
    await circuit.pause(PORTAL, "not_authorized")
    assert not await circuit._has_ended(PORTAL, (await circuit.list())[PORTAL])
    answers.good = True
    await redis.delete(keys.alert_once(PORTAL, "probe"))
    assert await circuit._has_ended(PORTAL, (await circuit.list())[PORTAL])


async def test_operators_pause_waits_for_an_operator(redis: Redis) -> None:
    circuit = PortalPauses(redis)
    await circuit.pause(PORTAL, OPERATOR)
    assert not await circuit._has_ended(PORTAL, (await circuit.list())[PORTAL])
    assert await circuit.resume(PORTAL)


async def test_spent_day_ends_by_the_clock(redis: Redis) -> None:
    circuit = PortalPauses(redis)
    await circuit.pause(PORTAL, "daily_limit", seconds=60.0)
    pause = (await circuit.list())[PORTAL]
    assert not await circuit._has_ended(PORTAL, pause)
    assert await circuit._has_ended(PORTAL, replace(pause, until=time.time() - 1))


async def test_operators_pause_stands_over_one_that_would_end_by_itself_and_is_recorded(redis: Redis) -> None:
    circuit = PortalPauses(redis)
    await circuit.pause(PORTAL, "crm_unavailable")
    await circuit.operator_pause(PORTAL, actor="ann", reason="import by hand")
    assert not (await circuit.list())[PORTAL].needs_probe
    assert await circuit.operator_resume(PORTAL, actor="bob", reason="done")
    records = await recorded(redis)
    acts = [(one.action.value, one.actor, one.reason) for one in records if one.action.value.startswith("portal.")]
    assert acts == [("portal.paused", "ann", "import by hand"), ("portal.resumed", "bob", "done")]
