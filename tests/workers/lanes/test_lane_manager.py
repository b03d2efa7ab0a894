"""workers.lanes.lane_manager, on a real Valkey: what is acquired and read in one call."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from spokes.core.delivery import Delivery, Entry
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.routing import Router
from tests.support.events import event
from workers.delivery.delivery_run import DeliveryRun
from workers.delivery.settlement import Settlement
from workers.lanes.lane_manager import LEASE_MS, LaneManager
from workers.lanes.lane_pool import ReadyLanes
from workers.lanes.lanes import Lane, WorkItem

PORTAL = 50112233


def change(object_id: int, at: int, name: str = "phone") -> dict[str, object]:
    fields = {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": "x"}
    return event(objectId=object_id, occurredAt=at, **fields)


def creation(object_id: int, at: int) -> dict[str, object]:
    return event(objectId=object_id, occurredAt=at)


def lane_key(object_id: int) -> str:
    return keys.lane(PORTAL, "contact", str(object_id))


class Worker:
    """One worker process that acquires lanes, and starts none of them."""

    def __init__(self, redis: Redis, settings: Settings, name: str = "one") -> None:
        self.settlement = Settlement(redis, name, RedisOutage())
        self._settings = settings
        self._ready = ReadyLanes()
        self.failed: list[WorkItem] = []
        self.manager = LaneManager(redis, name, RedisOutage(), self._ready, lambda item, _: self.failed.append(item))

    @property
    def lanes(self) -> list[Lane]:
        """The acquired lanes."""
        return [lane for turns in self._ready.by_class.values() for lanes in turns.values() for lane in lanes]

    def run(self, *raws: dict[str, object], delivery: str = "50112233-1-1") -> DeliveryRun:
        entries = tuple(Entry(str(raw["occurredAt"]), 0, raw) for raw in raws)
        return DeliveryRun(Delivery(delivery, PORTAL, 1, entries), self.settlement, self._settings, Router())

    async def acquire(self, *runs: DeliveryRun) -> list[list[WorkItem]]:
        """Acquire lanes for all items of the runs; return the items that wait, by run."""
        return list(await asyncio.gather(*(self.manager.acquire(run, run.items) for run in runs)))


@pytest.fixture
def worker(redis: Redis, settings: Settings) -> Worker:
    return Worker(redis, settings)


@pytest.fixture
def other(redis: Redis, settings: Settings) -> Worker:
    return Worker(redis, settings, "other")


def item_keys(lane: Lane) -> list[str]:
    return [item.entry.key for item in lane.items]


async def test_lane_is_held_by_one_worker_at_a_time(worker: Worker, other: Worker) -> None:
    assert await worker.acquire(worker.run(change(1, 1))) == [[]]
    ((busy,),) = await other.acquire(other.run(change(1, 2)))
    assert busy.awaits_lane


async def test_released_lane_is_free(worker: Worker, other: Worker) -> None:
    await worker.acquire(worker.run(change(1, 1)))
    worker.settlement.release_lane(worker.lanes[0])
    await worker.settlement.close()
    assert await other.acquire(other.run(change(1, 2))) == [[]]


async def test_lane_of_a_dead_worker_expires(redis: Redis, worker: Worker) -> None:
    await worker.acquire(worker.run(change(1, 1)))
    assert 0 < await redis.pttl(lane_key(1)) <= LEASE_MS


async def test_lapsed_lane_that_another_worker_holds_is_not_released(redis: Redis, worker: Worker) -> None:
    await worker.acquire(worker.run(change(1, 1)))
    await redis.set(lane_key(1), "other")  # the lease lapsed, and another worker acquired it
    worker.settlement.release_lane(worker.lanes[0])
    await worker.settlement.close()
    assert await redis.get(lane_key(1)) == b"other"


async def test_concurrent_deliveries_share_a_lane(worker: Worker) -> None:
    await worker.acquire(worker.run(change(1, 1)), worker.run(change(1, 2), delivery="50112233-1-2"))
    assert [len(lane.items) for lane in worker.lanes] == [2]


async def test_settled_event_does_not_enter_its_lane(redis: Redis, worker: Worker) -> None:
    await redis.sadd(keys.settled_events(PORTAL, "50112233-1-1"), "1")
    await worker.acquire(worker.run(change(1, 1), change(1, 2)))
    assert item_keys(worker.lanes[0]) == ["2"]


async def test_lane_has_the_newest_timestamps_of_its_items(redis: Redis, worker: Worker) -> None:
    await redis.hset(keys.newest_timestamps(PORTAL, "contact", "1"), mapping={"phone": 5, "email": 7, "city": 9})  # type: ignore[misc]  # redis-py types one class for sync and async
    await redis.hset(keys.newest_timestamps(PORTAL, "contact", "3"), mapping={"phone": 6})  # type: ignore[misc]  # as above
    first = worker.run(change(1, 10), change(1, 11, "email"), creation(2, 12), change(3, 13), change(3, 14, "email"))
    second = worker.run(change(4, 15), change(1, 16), delivery="50112233-1-2")
    assert await worker.acquire(first, second) == [[], []]
    assert {lane.key: (lane.newest_applied, item_keys(lane)) for lane in worker.lanes} == {
        lane_key(1): ({"phone": 5, "email": 7}, ["10", "11", "16"]),
        lane_key(2): ({}, ["12"]),
        lane_key(3): ({"phone": 6}, ["13", "14"]),
        lane_key(4): ({}, ["15"]),
    }


async def test_time_of_the_call_is_by_the_clock_of_redis(redis: Redis, worker: Worker) -> None:
    async def now_ms() -> int:
        seconds, microseconds = await redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    before = await now_ms()
    await worker.acquire(worker.run(creation(1, 1)))
    assert before <= worker.manager.redis_time_ms <= await now_ms()


async def test_lane_is_leased_for_lease_ms(redis: Redis, worker: Worker) -> None:
    await worker.acquire(worker.run(creation(1, 1), creation(2, 2)))
    assert all([LEASE_MS - 5_000 < await redis.pttl(lane_key(number)) <= LEASE_MS for number in (1, 2)])


async def test_lanes_of_a_repeated_call_are_ours(worker: Worker) -> None:
    script, lost = worker.manager._script, []

    async def lose_first_answer(**args: Any) -> Any:
        answer = await script(**args)
        if not lost:
            lost.append(answer)
            raise RedisConnectionError("after the script has run")
        return answer

    worker.manager._script = lose_first_answer  # type: ignore[assignment]
    assert await worker.acquire(worker.run(change(1, 1))) == [[]]
    assert (len(lost), len(worker.lanes)) == (1, 1)


async def test_later_event_enters_the_lane_that_we_hold(worker: Worker) -> None:
    await worker.acquire(worker.run(change(1, 1)))
    await worker.acquire(worker.run(change(1, 2), delivery="50112233-1-2"))
    assert item_keys(worker.lanes[0]) == ["1", "2"]


async def test_items_whose_lane_is_held_elsewhere_are_returned(redis: Redis, worker: Worker) -> None:
    await redis.set(lane_key(2), "other:1", px=LEASE_MS)
    ((busy,),) = await worker.acquire(worker.run(change(1, 1), change(2, 2), change(3, 3)))
    assert (busy.entry.key, [lane.key for lane in worker.lanes]) == ("2", [lane_key(1), lane_key(3)])
    assert await redis.get(lane_key(2)) == b"other:1"


async def test_event_is_an_echo_if_one_of_its_keys_exists(redis: Redis, worker: Worker) -> None:
    await redis.set("echo:2", "1")
    first = worker.run(change(1, 1), change(2, 2), change(3, 3))
    second = worker.run(change(4, 4), delivery="50112233-1-2")
    items = [*first.items, *second.items]
    for item, echo_keys in zip(items, [("echo:1",), ("echo:0", "echo:2"), (), ("echo:2",)], strict=True):
        item.echo_keys = echo_keys
    await worker.acquire(first, second)
    assert [item.is_echo for item in items] == [False, True, False, True]


async def test_item_of_a_merged_record_is_returned_as_one_of_the_survivor(redis: Redis, worker: Worker) -> None:
    merges = {keys.surviving_id(PORTAL, "contact", str(id_)): id_ + 1 for id_ in (1, 2)}
    await redis.mset({keys.has_merges(PORTAL): "1", **merges})
    ((moved,),) = await worker.acquire(worker.run(creation(1, 1), creation(4, 2)))
    assert (moved.event.survivor_id, moved.merged_from) == ("3", "1")
    assert [lane.key for lane in worker.lanes] == [lane_key(4)]
    assert await redis.exists(lane_key(1)) == 0


async def test_circle_of_merges_ends(redis: Redis, worker: Worker) -> None:
    await redis.mset({keys.has_merges(PORTAL): "1", keys.surviving_id(PORTAL, "contact", "1"): 1})
    assert await worker.acquire(worker.run(creation(1, 1))) == [[]]


async def test_merge_map_is_not_read_without_merges_in_the_portal(redis: Redis, worker: Worker) -> None:
    await redis.set(keys.surviving_id(PORTAL, "contact", "1"), "2")
    assert await worker.acquire(worker.run(creation(1, 1))) == [[]]
    assert len(worker.lanes) == 1


async def test_settled_events_are_left_out_of_their_own_delivery_only(redis: Redis, worker: Worker) -> None:
    await redis.sadd(keys.settled_events(PORTAL, "50112233-1-2"), "1", "3")
    first = worker.run(change(1, 1), change(1, 2))
    second = worker.run(change(1, 3), change(1, 4), delivery="50112233-1-2")
    await worker.acquire(first, second)
    assert item_keys(worker.lanes[0]) == ["1", "2", "4"]


async def test_event_waits_for_a_lane_of_ours_that_lapsed(redis: Redis, worker: Worker) -> None:
    await worker.acquire(worker.run(change(1, 1)))
    await redis.delete(lane_key(1))
    ((later,),) = await worker.acquire(worker.run(change(1, 2), delivery="50112233-1-2"))
    assert (later.entry.key, await redis.exists(lane_key(1))) == ("2", 0)
