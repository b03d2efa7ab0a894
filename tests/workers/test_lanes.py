"""lanes, lane_manager, settlement and once, on a real Valkey."""

import asyncio
import gc
import weakref

import pytest
from arq.constants import in_progress_key_prefix
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, Delivery, Entry
from spokes.core.errors import CRMUnavailable, RetryLater
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from tests.support.events import event
from workers.delivery.delivery_run import DeliveryRun
from workers.delivery.lane_manager import LEASE_MS, LaneManager
from workers.delivery.lanes import HandlerCall, Lane, WorkItem, group_by_lane, is_superseded, plan_calls
from workers.delivery.once import OnceGuard
from workers.delivery.resolution import LEASE_LOST
from workers.delivery.settlement import RedisCommand, Settlement, SettlementStep

PORTAL = 50112233
LANE = keys.lane(PORTAL, "contact", "1")


def change(at: int, name: str = "phone", value: str = "x") -> dict[str, object]:
    return event(
        objectId=1, occurredAt=at, subscriptionType="contact.propertyChange", propertyName=name, propertyValue=value
    )


def work(raw: dict[str, object], key: str = "") -> WorkItem:
    return WorkItem(None, Entry(key or str(raw["occurredAt"]), 0, raw), Event(raw))  # type: ignore[arg-type]  # no run is needed to plan


def told(plan: list[HandlerCall]) -> list[tuple[str, list[str]]]:
    return [(turn.item.entry.key, [older.entry.key for older in turn.coalesced]) for turn in plan]


def plan(*raws: dict[str, object], newest: dict[str, int] | None = None, each: bool = False) -> list[HandlerCall]:
    return plan_calls([work(raw) for raw in raws], newest or {}, lambda _: each)


def test_events_of_one_object_stand_in_one_lane() -> None:
    lanes = group_by_lane([work(change(3)), work(change(1)), work(event(9))])
    assert [[one.entry.key for one in works] for works in lanes.values()] == [["3", "1"], ["1795442400009"]]


def test_both_dialects_share_a_lane() -> None:
    generic = change(2) | {"subscriptionType": "object.propertyChange", "objectTypeId": "0-1"}
    assert len(group_by_lane([work(change(1)), work(generic)])) == 1


def test_merge_stands_in_the_lane_of_its_survivor() -> None:
    merge = event(subscriptionType="contact.merge", objectId=5, primaryObjectId=5, mergedObjectIds=[6], newObjectId=1)
    assert list(group_by_lane([work(merge)])) == [LANE]


def test_events_without_an_object_have_a_lane_each() -> None:
    odd = event(subscriptionType="contact.notYetKnown", objectId=None)
    assert len(group_by_lane([work(odd, "a"), work(odd, "b")])) == 2


@pytest.mark.parametrize(("at", "superseded"), [(4, True), (5, False), (6, False)])
def test_older_change_is_superseded(at: int, superseded: bool) -> None:
    assert is_superseded(Event(change(at)), {"phone": 5}) is superseded


def test_change_of_another_property_is_not() -> None:
    assert not is_superseded(Event(change(4, "email")), {"phone": 5})


def test_change_of_what_was_never_applied_is_not() -> None:
    assert not is_superseded(Event(change(0)), {})


def test_creation_is_not_superseded_by_a_later_deletion() -> None:
    assert not is_superseded(Event(event(occurredAt=4)), {"*": 5})


def test_deletion_older_than_a_restoring_is_superseded() -> None:
    assert is_superseded(Event(event(subscriptionType="contact.deletion", occurredAt=4)), {"*": 5})


def test_event_that_waits_alone_is_a_turn() -> None:
    assert told(plan(change(1))) == [("1", [])]


def test_burst_of_one_property_is_one_turn_of_the_newest() -> None:
    assert told(plan(change(2), change(3), change(1))) == [("3", ["1", "2"])]


def test_changes_of_one_millisecond_count_in_the_order_of_their_ids() -> None:
    later, earlier = (change(1, value=value) | {"eventId": id_} for value, id_ in (("b", 8), ("a", 7)))
    (turn,) = plan(later, earlier)
    assert (turn.oldest_value, turn.item.event.property_value) == ("a", "b")


def test_change_without_an_id_counts_as_the_first_of_its_millisecond() -> None:
    nameless = change(1, value="a")
    del nameless["eventId"]
    (turn,) = plan(change(1, value="b") | {"eventId": 1}, nameless)
    assert (turn.oldest_value, turn.item.event.property_value) == ("a", "b")


def test_turn_knows_the_first_value_and_the_last() -> None:
    (turn,) = plan(change(1, value="a"), change(2, value="b"), change(3, value="c"))
    assert (turn.oldest_value, turn.item.event.property_value) == ("a", "c")


def test_changes_of_other_properties_are_other_turns() -> None:
    assert told(plan(change(2), change(3, "email"), change(4))) == [("3", []), ("4", ["2"])]


def test_handler_may_ask_for_each_event() -> None:
    assert told(plan(change(2), change(1), each=True)) == [("1", []), ("2", [])]


def test_handler_is_asked_about_each_event_and_others_still_share_turns() -> None:
    works = [work(change(1, "email")), work(change(2)), work(change(3, "email")), work(change(4))]
    plan = plan_calls(works, {}, lambda event: event.property_name == "email")
    assert told(plan) == [("1", []), ("3", []), ("4", ["2"])]


def test_superseded_change_speaks_for_nobody() -> None:
    assert told(plan(change(1), change(2), newest={"phone": 5})) == [("1", []), ("2", [])]


def test_echo_neither_speaks_for_others_nor_is_spoken_for() -> None:
    works = [work(change(1)), work(change(2)), work(change(3))]
    works[2].is_echo = True
    assert told(plan_calls(works, {}, lambda _: False)) == [("2", ["1"]), ("3", [])]


def test_restoring_speaks_for_the_deletion_before_it() -> None:
    deletion, restore = (
        event(objectId=1, occurredAt=at, subscriptionType=f"contact.{kind}")
        for at, kind in ((1, "deletion"), (2, "restore"))
    )
    assert told(plan(restore, deletion)) == [("2", ["1"])]


class Holder:
    """One worker process's way of beginning."""

    def __init__(self, redis: Redis, name: str, settings: Settings) -> None:
        self.ready: list[Lane] = []
        self.settings = settings
        self.settlement = Settlement(redis, name, RedisOutage())
        self.beginning = LaneManager(redis, name, RedisOutage(), self.ready.append)

    def run(self, *raws: dict[str, object], name: str = "50112233-1-1") -> DeliveryRun:
        entries = tuple(Entry(str(raw["occurredAt"]), 0, raw) for raw in raws)
        return DeliveryRun(Delivery(name, PORTAL, 1, entries), self.settlement, self.settings, crash_loop=False)

    async def enter(self, *raws: dict[str, object], name: str = "50112233-1-1") -> list[WorkItem]:
        run = self.run(*raws, name=name)
        return await self.beginning.acquire(run, run.items)


async def test_lane_is_held_by_one_at_a_time(redis: Redis, settings: Settings) -> None:
    one, other = Holder(redis, "one", settings), Holder(redis, "other", settings)
    assert (len(await one.enter(change(1))), len(await other.enter(change(2)))) == (0, 1)


async def test_lane_given_back_is_free(redis: Redis, settings: Settings) -> None:
    one, other = Holder(redis, "one", settings), Holder(redis, "other", settings)
    await one.enter(change(1))
    one.settlement.release_lane(one.ready[0])
    await one.settlement.close()
    assert await other.enter(change(2)) == []


async def test_lane_of_a_dead_worker_comes_free_by_itself(redis: Redis, settings: Settings) -> None:
    await Holder(redis, "dead", settings).enter(change(1))
    assert 0 < await redis.pttl(LANE) <= LEASE_MS


async def test_lane_that_another_holds_by_now_is_not_given_away(redis: Redis, settings: Settings) -> None:
    slow = Holder(redis, "slow", settings)
    await slow.enter(change(1))
    await redis.set(LANE, "other")  # the lease ran out, and another took it
    slow.settlement.release_lane(slow.ready[0])
    await slow.settlement.close()
    assert await redis.get(LANE) == b"other"


async def test_deliveries_that_begin_together_meet_in_a_lane(redis: Redis, settings: Settings) -> None:
    holder = Holder(redis, "one", settings)
    await asyncio.gather(holder.enter(change(1)), holder.enter(change(2), name="50112233-1-2"))
    assert [len(lane.items) for lane in holder.ready] == [2]


async def test_what_was_settled_before_does_not_enter(redis: Redis, settings: Settings) -> None:
    await redis.sadd(keys.settled_events(PORTAL, "50112233-1-1"), "1")
    holder = Holder(redis, "one", settings)
    await holder.enter(change(1), change(2))
    assert [one.entry.key for one in holder.ready[0].items] == ["2"]


async def test_run_that_has_ended_is_freed_without_the_garbage_collector(redis: Redis, settings: Settings) -> None:
    holder = Holder(redis, "one", settings)
    run = holder.run(change(1), change(2))
    gone = weakref.ref(run)
    run.postpone(run.items, LEASE_LOST)
    await run.finished()
    await holder.settlement.close()
    gc.disable()
    try:
        del run
        assert gone() is None
    finally:
        gc.enable()


async def delivery(redis: Redis, name: str = "50112233-1-1") -> Delivery:
    await redis.set(JOB_KEY_PREFIX + name, "a job")
    await redis.zadd(JOB_QUEUE, {name: 1})
    return Delivery(name, PORTAL, 1, ())


INCR: tuple[RedisCommand, ...] = (("INCR", "n"),)


async def test_steps_that_come_together_are_settled_together(redis: Redis) -> None:
    settlement, one = Settlement(redis, "one", RedisOutage()), await delivery(redis)
    before = (await redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
    for number in range(50):
        settlement.add_step(SettlementStep(one, (str(number),), (), INCR))
    await settlement.close_delivery(one)
    after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert (await redis.get("n"), after - before <= 2) == (b"50", True)


async def test_event_is_settled_once_whoever_tries(redis: Redis) -> None:
    one = await delivery(redis)
    for _ in range(2):
        settlement = Settlement(redis, "one", RedisOutage())
        settlement.add_step(SettlementStep(one, ("a",), (), INCR))
        await settlement.close()
    assert await redis.get("n") == b"1"


async def test_nothing_is_settled_of_a_delivery_that_has_ended(redis: Redis) -> None:
    settlement, one = Settlement(redis, "one", RedisOutage()), await delivery(redis)
    settlement.add_step(SettlementStep(one, ("a",), (), INCR))
    await settlement.close_delivery(one)
    settlement.add_step(SettlementStep(one, ("b",), (), INCR))
    await settlement.close_delivery(one)
    assert (await redis.get("n"), await redis.keys("*settled*")) == (b"1", [])


async def test_ended_delivery_leaves_the_queue(redis: Redis) -> None:
    settlement, one = Settlement(redis, "one", RedisOutage()), await delivery(redis)
    assert await settlement.close_delivery(one)
    assert await redis.keys("arq:*") == []


async def test_delivery_whose_events_another_settled_stays_in_the_queue(redis: Redis) -> None:
    settlement, one = Settlement(redis, "one", RedisOutage()), await delivery(redis)
    await redis.sadd(keys.settled_events(PORTAL, one.id), "a")
    settlement.add_step(
        SettlementStep(one, ("a", "b"), (), INCR)
    )  # the move of two events, one of which is done by now
    assert not await settlement.close_delivery(one)
    assert (await redis.get("n"), await redis.zcard(JOB_QUEUE)) == (None, 1)


@pytest.mark.parametrize("stands", [True, False])
async def test_step_that_hangs_on_a_key_is_carried_out_only_with_it_or_only_without(redis: Redis, stands: bool) -> None:
    settlement, one = Settlement(redis, "one", RedisOutage()), await delivery(redis)
    if stands:
        await redis.set("key", 1)
    for expected, counter in ((True, "with"), (False, "without")):
        settlement.add_step(SettlementStep(one, ("a",), (), (("INCR", counter),), ("key", expected)))
    assert await settlement.close_delivery(one)
    assert await redis.mget("with", "without") == ([b"1", None] if stands else [None, b"1"])


@pytest.mark.parametrize(("holder", "moved"), [("another", False), ("one", True), ("1", True), (None, True)])
async def test_events_are_moved_away_by_nobody_while_another_holds_their_delivery(
    redis: Redis, holder: str | None, moved: bool
) -> None:
    settlement, one = Settlement(redis, "one", RedisOutage()), await delivery(redis)
    if holder:  # arq's own workers call themselves 1
        await redis.set(in_progress_key_prefix + one.id, holder)
    settlement.add_step(SettlementStep(one, ("a",), (), INCR, requires_lease=True))
    assert await settlement.close_delivery(one) is moved
    assert (await redis.get("n"), await redis.zcard(JOB_QUEUE)) == ((b"1", 0) if moved else (None, 1))


@pytest.mark.parametrize(
    ("holder", "stands", "left"), [("one", True, False), ("another", True, True), ("another", False, False)]
)
async def test_move_that_hangs_on_a_key_is_the_holders_too(redis: Redis, holder: str, stands: bool, left: bool) -> None:
    settlement, one = Settlement(redis, "one", RedisOutage()), await delivery(redis)
    await redis.set(in_progress_key_prefix + one.id, holder)
    if stands:
        await redis.set("key", 1)
    settlement.add_step(SettlementStep(one, ("a",), (), INCR, ("key", True), requires_lease=True))
    assert await settlement.close_delivery(one) is not left  # what may not be moved anyway keeps no delivery
    assert await redis.get("n") == (b"1" if stands and not left else None)


async def test_event_that_was_done_is_settled_though_another_holds_its_delivery(redis: Redis) -> None:
    settlement, one = Settlement(redis, "one", RedisOutage()), await delivery(redis)
    await redis.set(in_progress_key_prefix + one.id, "another")
    settlement.add_step(SettlementStep(one, ("a",), (), INCR))
    settlement.add_step(SettlementStep(one, ("b",), (), INCR, requires_lease=True))
    assert not await settlement.close_delivery(one)
    assert (await redis.get("n"), await redis.smembers(keys.settled_events(PORTAL, one.id))) == (b"1", {b"a"})


async def test_step_that_fails_spares_those_who_come_later(redis: Redis) -> None:
    settlement, one = Settlement(redis, "one", RedisOutage()), await delivery(redis)
    await redis.set("text", "x")
    settlement.add_step(SettlementStep(one, ("a",), (), (("INCR", "text"),)))
    with pytest.raises(ResponseError):
        await settlement.close_delivery(one)
    settlement.add_step(SettlementStep(one, ("b",), (), INCR))
    await settlement.close()
    assert await redis.get("n") == b"1"


class Notes:
    """What stands in HubSpot."""

    def __init__(self) -> None:
        self.made: list[str] = []

    async def make(self) -> str:
        self.made.append(str(len(self.made) + 100))
        return self.made[-1]

    async def make_and_die(self) -> str:
        await self.make()
        raise ConnectionError

    async def find(self) -> str | None:
        return self.made[-1] if self.made else None


async def test_effect_happens_once_for_an_object(redis: Redis) -> None:
    notes, first, second = Notes(), OnceGuard(redis, Event(change(1))), OnceGuard(redis, Event(change(2)))
    assert (await first("note", notes.make), await second("note", notes.make)) == ("100", "100")
    assert notes.made == ["100"]


async def test_effect_cut_off_before_its_record_is_found_and_not_repeated(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, Event(change(1)))
    with pytest.raises(ConnectionError):
        await once("note", notes.make_and_die, find=notes.find)
    await redis.delete(once._in_flight_key("note"))  # it has had its time
    assert await once("note", notes.make, find=notes.find) == "100"
    assert notes.made == ["100"]


async def test_effect_that_may_still_be_on_its_way_is_looked_for_later(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, Event(change(1)))
    with pytest.raises(ConnectionError):
        await once("note", notes.make_and_die, find=notes.find)
    with pytest.raises(RetryLater) as later:
        await once("note", notes.make, find=notes.find)
    assert 0 < (later.value.after_s or 0) <= 20


async def test_effect_that_hubspot_has_refused_is_not_waited_for(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, Event(change(1)))

    async def refused() -> str:
        raise CRMUnavailable(status=500)

    with pytest.raises(CRMUnavailable):
        await once("note", refused, find=notes.find)
    assert await once("note", notes.make, find=notes.find) == "100"


async def test_effect_that_never_happened_is_made_after_all(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, Event(change(1)))

    async def die() -> str:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await once("note", die, find=notes.find)
    await redis.delete(once._in_flight_key("note"))  # it has had its time
    assert await once("note", notes.make, find=notes.find) == "100"


async def test_effects_of_other_names_and_objects_are_others(redis: Redis) -> None:
    notes = Notes()
    await OnceGuard(redis, Event(change(1)))("note", notes.make)
    await OnceGuard(redis, Event(change(1)))("task", notes.make)
    await OnceGuard(redis, Event(event(2)))("note", notes.make)
    assert len(notes.made) == 3
