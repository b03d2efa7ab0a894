"""lane_manager and leases, on a real Valkey: what is taken and read in one call, and what is renewed."""

import asyncio
import contextlib
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected

from spokes.core.delivery import Delivery, Entry
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from tests.support.events import event
from workers.delivery.delivery_run import DeliveryRun
from workers.delivery.lane_manager import LEASE_MS, LaneManager
from workers.delivery.lanes import Lane, WorkItem
from workers.delivery.settlement import Settlement
from workers.queue import leases as heartbeat

PORTAL = 50112233


def change(object_id: int, at: int, name: str = "phone") -> dict[str, object]:
    fields = {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": "x"}
    return event(objectId=object_id, occurredAt=at, **fields)


def creation(object_id: int, at: int) -> dict[str, object]:
    return event(objectId=object_id, occurredAt=at)


class Worker:
    """One worker process, as far as it begins."""

    def __init__(self, redis: Redis, settings: Settings, name: str = "one") -> None:
        self.lanes: list[Lane] = []
        self._settings = settings
        self._settlement = Settlement(redis, "one", RedisOutage())
        self.beginning = LaneManager(redis, name, RedisOutage(), self.lanes.append)

    def run(self, *raws: dict[str, object], delivery: str = "50112233-1-1") -> DeliveryRun:
        entries = tuple(Entry(str(raw["occurredAt"]), 0, raw) for raw in raws)
        return DeliveryRun(Delivery(delivery, PORTAL, 1, entries), self._settlement, self._settings, crash_loop=False)

    async def enter(self, *runs: DeliveryRun) -> list[list[WorkItem]]:
        return list(await asyncio.gather(*(self.beginning.acquire(run, run.items) for run in runs)))


@pytest.fixture
def worker(redis: Redis, settings: Settings) -> Worker:
    return Worker(redis, settings)


def lane(object_id: int) -> str:
    return keys.lane(PORTAL, "contact", str(object_id))


async def test_each_lane_learns_the_newest_of_what_waits_in_it(redis: Redis, worker: Worker) -> None:
    await redis.hset(keys.newest_timestamps(PORTAL, "contact", "1"), mapping={"phone": 5, "email": 7, "city": 9})  # type: ignore[misc]  # redis-py types one class for sync and async
    await redis.hset(keys.newest_timestamps(PORTAL, "contact", "3"), mapping={"phone": 6})  # type: ignore[misc]  # as above
    first = worker.run(change(1, 10), change(1, 11, "email"), creation(2, 12), change(3, 13), change(3, 14, "email"))
    second = worker.run(change(4, 15), change(1, 16), delivery="50112233-1-2")
    assert await worker.enter(first, second) == [[], []]
    told = {lane.key: (lane.newest_applied, [work.entry.key for work in lane.items]) for lane in worker.lanes}
    assert told == {
        lane(1): ({"phone": 5, "email": 7}, ["10", "11", "16"]),
        lane(2): ({}, ["12"]),
        lane(3): ({"phone": 6}, ["13", "14"]),
        lane(4): ({}, ["15"]),
    }


async def test_when_lanes_were_looked_at_is_told_by_the_clock_of_redis(redis: Redis, worker: Worker) -> None:
    async def now_ms() -> int:
        seconds, micro = await redis.time()
        return int(seconds) * 1000 + int(micro) // 1000

    before = await now_ms()
    await worker.enter(worker.run(creation(1, 1)))
    assert before <= worker.beginning.redis_time_ms <= await now_ms()


async def test_lease_lasts_as_long_as_is_said(redis: Redis, worker: Worker) -> None:
    await worker.enter(worker.run(creation(1, 1), creation(2, 2)))
    assert all([LEASE_MS - 5_000 < await redis.pttl(lane(number)) <= LEASE_MS for number in (1, 2)])


async def test_lanes_of_a_call_whose_answer_was_lost_are_ours(worker: Worker) -> None:
    script, lost = worker.beginning._script, []

    async def lossy(**words: Any) -> Any:
        told = await script(**words)
        if not lost:
            lost.append(told)
            raise Disconnected("after Redis has done it")
        return told

    worker.beginning._script = lossy  # type: ignore[assignment]  # the real one, behind a bad line
    assert await worker.enter(worker.run(change(1, 1))) == [[]]
    assert (len(lost), len(worker.lanes)) == (1, 1)


async def test_later_event_joins_the_lane_that_we_hold(worker: Worker) -> None:
    await worker.enter(worker.run(change(1, 1)))
    await worker.enter(worker.run(change(1, 2), delivery="50112233-1-2"))
    assert [work.entry.key for work in worker.lanes[0].items] == ["1", "2"]


async def test_what_another_works_on_comes_back_and_the_rest_goes_on(redis: Redis, worker: Worker) -> None:
    await redis.set(lane(2), "other:1", px=LEASE_MS)
    ((busy,),) = await worker.enter(worker.run(change(1, 1), change(2, 2), change(3, 3)))
    assert (busy.entry.key, [lane.key for lane in worker.lanes]) == ("2", [lane(1), lane(3)])
    assert await redis.get(lane(2)) == b"other:1"


async def test_event_is_an_echo_if_one_of_its_keys_stands(redis: Redis, worker: Worker) -> None:
    await redis.set("echo:2", "1")
    run, other = worker.run(change(1, 1), change(2, 2), change(3, 3)), worker.run(change(4, 4), delivery="50112233-1-2")
    for work, names in zip(
        [*run.items, *other.items], [("echo:1",), ("echo:0", "echo:2"), (), ("echo:2",)], strict=True
    ):
        work.echo_keys = names
    await worker.enter(run, other)
    assert [work.is_echo for work in [*run.items, *other.items]] == [False, True, False, True]


async def test_event_of_a_merged_record_comes_back_as_one_of_its_last_survivor(redis: Redis, worker: Worker) -> None:
    await redis.mset(
        {keys.has_merges(PORTAL): "1", **{keys.surviving_id(PORTAL, "contact", str(n)): n + 1 for n in (1, 2)}}
    )
    ((moved,),) = await worker.enter(worker.run(creation(1, 1), creation(4, 2)))
    assert (moved.event.survivor_id, moved.merged_from) == ("3", "1")
    assert [lane.key for lane in worker.lanes] == [lane(4)]
    assert await redis.exists(lane(1)) == 0


async def test_merges_in_a_circle_come_to_an_end(redis: Redis, worker: Worker) -> None:
    await redis.mset({keys.has_merges(PORTAL): "1", keys.surviving_id(PORTAL, "contact", "1"): 1})
    assert await worker.enter(worker.run(creation(1, 1))) == [[]]


async def test_portal_without_merges_is_not_asked_about_them(redis: Redis, worker: Worker) -> None:
    await redis.set(keys.surviving_id(PORTAL, "contact", "1"), "2")
    assert await worker.enter(worker.run(creation(1, 1))) == [[]]
    assert len(worker.lanes) == 1


async def test_what_was_settled_before_is_left_out_of_its_own_delivery_alone(redis: Redis, worker: Worker) -> None:
    await redis.sadd(keys.settled_events(PORTAL, "50112233-1-2"), "1", "3")
    first = worker.run(change(1, 1), change(1, 2))
    second = worker.run(change(1, 3), change(1, 4), delivery="50112233-1-2")
    await worker.enter(first, second)
    assert [work.entry.key for work in worker.lanes[0].items] == ["1", "2", "4"]


async def beaten(redis: Redis, leases: list[heartbeat.Lease], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Renew once; return the keys that are ours."""
    monkeypatch.setattr(heartbeat, "RENEW_EVERY_S", 0.0)
    ours: list[str] = []
    asked = asyncio.Event()

    def once() -> list[heartbeat.Lease]:
        if asked.is_set():
            raise asyncio.CancelledError
        asked.set()
        return leases

    with contextlib.suppress(asyncio.CancelledError):
        await heartbeat.renew_leases(redis, once, LEASE_MS, lambda lease, _: ours.append(lease[0]))
    return ours


async def test_event_for_a_lane_of_ours_that_has_lapsed_waits(redis: Redis, worker: Worker) -> None:
    await worker.enter(worker.run(change(1, 1)))
    await redis.delete(lane(1))
    ((later,),) = await worker.enter(worker.run(change(1, 2), delivery="50112233-1-2"))
    assert (later.entry.key, await redis.exists(lane(1))) == ("2", 0)


async def test_heartbeat_renews_ours_takes_back_what_lapsed_and_leaves_the_others(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redis.mset({"held": "one", "taken": "other", "held too": "one"})
    for name in ("held", "taken", "held too"):
        await redis.pexpire(name, 1_500)
    told = (("held", "one"), ("lapsed", "two"), ("taken", "one"), ("held too", "one"))
    leases = [heartbeat.Lease(*lease, may_reacquire=True) for lease in told]
    assert await beaten(redis, leases, monkeypatch) == ["held", "lapsed", "held too"]
    assert await redis.mget("held", "lapsed", "taken", "held too") == [b"one", b"two", b"other", b"one"]
    left = [await redis.pttl(name) for name in ("held", "lapsed", "taken", "held too")]
    assert [2_000 < ms <= LEASE_MS for ms in left] == [True, True, False, True]


async def test_lease_that_may_not_be_taken_again_is_lost_once_it_has_lapsed(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redis.set("held", "one")
    leases = [heartbeat.Lease("held", "one"), heartbeat.Lease("lapsed", "one")]
    assert await beaten(redis, leases, monkeypatch) == ["held"]
    assert not await redis.exists("lapsed")


async def test_heartbeat_renews_more_leases_than_fit_into_one_call(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = [heartbeat.Lease(f"lease {number}", "one", may_reacquire=True) for number in range(501)]
    assert await beaten(redis, leases, monkeypatch) == [lease.key for lease in leases]
