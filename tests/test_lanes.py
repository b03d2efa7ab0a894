"""workers.lanes, workers.settlement and workers.once, on a real Valkey."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from conftest import event
from core.deliveries import Entry
from core.events import Event
from workers import keys
from workers.lanes import LEASE_MS, Lanes, group, is_superseded
from workers.once import OnceForEvent
from workers.settlement import Settlement

LANE = keys.lane(7, "contact", "1")


def change(at: int, name: str = "phone") -> dict[str, object]:
    return event(
        objectId=1, occurredAt=at, subscriptionType="contact.propertyChange", propertyName=name, propertyValue="x"
    )


def test_events_of_one_object_stand_in_one_lane_oldest_first() -> None:
    entries = [Entry(str(at), 0, change(at)) for at in (3, 1, 2)] + [Entry("other", 0, event(9))]
    lanes = group(7, entries)
    assert [[work.entry.key for work in works] for works in lanes.values()] == [["1", "2", "3"], ["other"]]


def test_both_dialects_share_a_lane() -> None:
    generic = change(2) | {"subscriptionType": "object.propertyChange", "objectTypeId": "0-1"}
    assert len(group(7, [Entry("a", 0, change(1)), Entry("b", 0, generic)])) == 1


def test_merge_stands_in_the_lane_of_its_survivor() -> None:
    merge = event(subscriptionType="contact.merge", objectId=5, primaryObjectId=5, mergedObjectIds=[6], newObjectId=1)
    assert list(group(7, [Entry("a", 0, merge)])) == [LANE]


@pytest.mark.parametrize(("at", "superseded"), [(4, True), (5, False), (6, False)])
def test_older_change_is_superseded(at: int, superseded: bool) -> None:
    assert is_superseded(Event(change(at)), {"phone": 5}) is superseded


def test_change_of_another_property_is_not() -> None:
    assert not is_superseded(Event(change(4, "email")), {"phone": 5})


async def test_lane_is_held_by_one_at_a_time(redis: Redis) -> None:
    one, other = Lanes(redis, "one"), Lanes(redis, "other")
    assert (await one.take(LANE), await other.take(LANE)) == (True, False)


async def test_lane_given_back_is_free(redis: Redis) -> None:
    one, other = Lanes(redis, "one"), Lanes(redis, "other")
    await one.take(LANE)
    taking = asyncio.create_task(other.take(LANE))
    await asyncio.sleep(0.1)
    await one.give(LANE)
    assert await taking


async def test_lane_of_a_dead_worker_comes_free_by_itself(redis: Redis) -> None:
    await Lanes(redis, "dead").take(LANE)
    assert 0 < await redis.pttl(LANE) <= LEASE_MS


async def test_lane_that_another_holds_by_now_is_not_given_away(redis: Redis) -> None:
    slow = Lanes(redis, "slow")
    await slow.take(LANE)
    await redis.set(LANE, "other")  # the lease ran out, and another took it
    await slow.give(LANE)
    assert await redis.get(LANE) == b"other"


async def test_steps_that_come_together_are_settled_together(redis: Redis) -> None:
    settlement = Settlement(redis)
    before = (await redis.info("commandstats"))["cmdstat_exec"]["calls"] if await _exec_was_called(redis) else 0
    await asyncio.gather(*(settlement.settle(lambda pipeline: pipeline.incr("n")) for _ in range(50)))
    after = (await redis.info("commandstats"))["cmdstat_exec"]["calls"]
    assert (await redis.get("n"), after - before <= 2) == (b"50", True)


async def _exec_was_called(redis: Redis) -> bool:
    return "cmdstat_exec" in await redis.info("commandstats")


async def test_step_that_fails_tells_those_who_wait_and_spares_those_who_come_later(redis: Redis) -> None:
    settlement = Settlement(redis)
    await redis.set("text", "x")
    with pytest.raises(ResponseError):
        await settlement.settle(lambda pipeline: pipeline.incr("text"))
    await settlement.settle(lambda pipeline: pipeline.incr("n"))
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
    notes, first, second = Notes(), OnceForEvent(redis, Event(change(1))), OnceForEvent(redis, Event(change(2)))
    assert (await first("note", notes.make), await second("note", notes.make)) == ("100", "100")
    assert notes.made == ["100"]


async def test_effect_cut_off_before_its_record_is_found_and_not_repeated(redis: Redis) -> None:
    notes, once = Notes(), OnceForEvent(redis, Event(change(1)))
    with pytest.raises(ConnectionError):
        await once("note", notes.make_and_die, find=notes.find)
    assert await once("note", notes.make, find=notes.find) == "100"
    assert notes.made == ["100"]


async def test_effect_that_never_happened_is_made_after_all(redis: Redis) -> None:
    notes, once = Notes(), OnceForEvent(redis, Event(change(1)))

    async def die() -> str:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await once("note", die, find=notes.find)
    assert await once("note", notes.make, find=notes.find) == "100"


async def test_effects_of_other_names_and_objects_are_others(redis: Redis) -> None:
    notes = Notes()
    await OnceForEvent(redis, Event(change(1)))("note", notes.make)
    await OnceForEvent(redis, Event(change(1)))("task", notes.make)
    await OnceForEvent(redis, Event(event(2)))("note", notes.make)
    assert len(notes.made) == 3
