"""workers.delivery.settlement, on a real Valkey: what is written once, together, or not at all."""

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from spokes.core.delivery import Delivery
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.redis.outage import RedisOutage
from workers.delivery.settlement import RedisCommand, Settlement, SettlementStep
from workers.lanes.lanes import Lane

INCR: tuple[RedisCommand, ...] = (("INCR", "n"),)


@pytest.fixture
async def delivery(redis: Redis) -> Delivery:
    delivery = Delivery("50112233-1-1", 50112233, 1, ())
    await redis.set(JOB_KEY_PREFIX + delivery.id, "a job")
    await redis.zadd(JOB_QUEUE, {delivery.id: 1})
    return delivery


@pytest.fixture
async def settlement(redis: Redis) -> Settlement:
    return Settlement(redis, "one", RedisOutage())


async def test_concurrent_steps_share_a_call(redis: Redis, settlement: Settlement, delivery: Delivery) -> None:
    before = (await redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
    for number in range(50):
        settlement.add_step(SettlementStep(delivery, (str(number),), (), INCR))
    await settlement.close_delivery(delivery)
    after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert (await redis.get("n"), after - before <= 2) == (b"50", True)


async def test_event_is_settled_once(redis: Redis, delivery: Delivery) -> None:
    for _ in range(2):
        settlement = Settlement(redis, "one", RedisOutage())
        settlement.add_step(SettlementStep(delivery, ("a",), (), INCR))
        await settlement.close()
    assert await redis.get("n") == b"1"


async def test_nothing_is_settled_of_a_closed_delivery(
    redis: Redis, settlement: Settlement, delivery: Delivery
) -> None:
    settlement.add_step(SettlementStep(delivery, ("a",), (), INCR))
    await settlement.close_delivery(delivery)
    settlement.add_step(SettlementStep(delivery, ("b",), (), INCR))
    await settlement.close_delivery(delivery)
    assert (await redis.get("n"), await redis.keys("*settled*")) == (b"1", [])


async def test_closed_delivery_leaves_the_queue(redis: Redis, settlement: Settlement, delivery: Delivery) -> None:
    assert await settlement.close_delivery(delivery)
    assert await redis.keys("spokes:job:*") == []


async def test_delivery_with_events_settled_elsewhere_stays_queued(
    redis: Redis, settlement: Settlement, delivery: Delivery
) -> None:
    await redis.sadd(keys.settled_events(delivery.portal_id, delivery.id), "a")
    settlement.add_step(SettlementStep(delivery, ("a", "b"), (), INCR))  # moves two events; one is settled already
    assert not await settlement.close_delivery(delivery)
    assert (await redis.get("n"), await redis.zcard(JOB_QUEUE)) == (None, 1)


@pytest.mark.parametrize("exists", [True, False])
async def test_step_that_requires_a_key_depends_on_its_existence(
    redis: Redis, settlement: Settlement, delivery: Delivery, exists: bool
) -> None:
    if exists:
        await redis.set("key", 1)
    for expected, counter in ((True, "with"), (False, "without")):
        settlement.add_step(SettlementStep(delivery, ("a",), (), (("INCR", counter),), ("key", expected)))
    assert await settlement.close_delivery(delivery)
    assert await redis.mget("with", "without") == ([b"1", None] if exists else [None, b"1"])


@pytest.mark.parametrize(("holder", "moved"), [("another", False), ("one", True), (None, True)])
async def test_only_the_holder_of_a_delivery_moves_its_events(
    redis: Redis, settlement: Settlement, delivery: Delivery, holder: str | None, moved: bool
) -> None:
    if holder:
        await redis.set(keys.IN_PROGRESS_KEY_PREFIX + delivery.id, holder)
    settlement.add_step(SettlementStep(delivery, ("a",), (), INCR, requires_lease=True))
    assert await settlement.close_delivery(delivery) is moved
    assert (await redis.get("n"), await redis.zcard(JOB_QUEUE)) == ((b"1", 0) if moved else (None, 1))


@pytest.mark.parametrize(
    ("holder", "exists", "left"), [("one", True, False), ("another", True, True), ("another", False, False)]
)
async def test_move_that_requires_a_key_is_the_holders_too(
    redis: Redis, settlement: Settlement, delivery: Delivery, holder: str, exists: bool, left: bool
) -> None:
    await redis.set(keys.IN_PROGRESS_KEY_PREFIX + delivery.id, holder)
    if exists:
        await redis.set("key", 1)
    settlement.add_step(SettlementStep(delivery, ("a",), (), INCR, ("key", True), requires_lease=True))
    assert await settlement.close_delivery(delivery) is not left  # a step whose key does not fit keeps no delivery open
    assert await redis.get("n") == (b"1" if exists and not left else None)


async def test_finished_event_is_settled_although_another_holds_its_delivery(
    redis: Redis, settlement: Settlement, delivery: Delivery
) -> None:
    await redis.set(keys.IN_PROGRESS_KEY_PREFIX + delivery.id, "another")
    settlement.add_step(SettlementStep(delivery, ("a",), (), INCR))
    settlement.add_step(SettlementStep(delivery, ("b",), (), INCR, requires_lease=True))
    assert not await settlement.close_delivery(delivery)
    assert (await redis.get("n"), await redis.smembers(keys.settled_events(delivery.portal_id, delivery.id))) == (
        b"1",
        {b"a"},
    )


async def test_delivery_stays_queued_when_an_earlier_step_was_refused(
    redis: Redis, settlement: Settlement, delivery: Delivery
) -> None:
    await redis.set("text", "x")
    settlement.add_step(SettlementStep(delivery, ("a",), (), (("INCR", "text"),)))
    await settlement.close()
    with pytest.raises(ResponseError):
        await settlement.close_delivery(delivery)


async def test_refused_step_does_not_affect_other_deliveries_of_its_call(
    redis: Redis, settlement: Settlement, delivery: Delivery
) -> None:
    await redis.set("text", "x")
    other = Delivery("50112233-2-2", 50112233, 1, ())
    await redis.set(JOB_KEY_PREFIX + other.id, "a job")
    settlement.add_step(SettlementStep(delivery, ("a",), (), (("INCR", "text"),)))
    settlement.add_step(SettlementStep(other, ("a",), (), INCR))
    await settlement.close()
    assert await redis.get("n") == b"1"


async def test_failing_step_does_not_affect_later_calls(
    redis: Redis, settlement: Settlement, delivery: Delivery
) -> None:
    await redis.set("text", "x")
    settlement.add_step(SettlementStep(delivery, ("a",), (), (("INCR", "text"),)))
    with pytest.raises(ResponseError):
        await settlement.close_delivery(delivery)
    settlement.add_step(SettlementStep(delivery, ("b",), (), INCR))
    await settlement.close()
    assert await redis.get("n") == b"1"


async def recorded(redis: Redis) -> list[bytes]:
    """Return the audit records in their order."""
    return [fields[b"r"] for _, fields in await redis.xrange(keys.AUDIT_STREAM)]


async def test_steps_keep_their_order_whatever_they_write(
    redis: Redis, settlement: Settlement, delivery: Delivery
) -> None:
    for number, commands in enumerate(((), (), INCR, (), INCR, INCR, ())):
        settlement.add_step(SettlementStep(delivery, (str(number),), [b"%d" % number], commands))
    await settlement.close_delivery(delivery)
    assert await recorded(redis) == [b"%d" % number for number in range(7)]


async def test_recorded_event_is_settled_once(redis: Redis, delivery: Delivery) -> None:
    for _ in range(2):
        settlement = Settlement(redis, "one", RedisOutage())
        settlement.add_step(SettlementStep(delivery, ("a",), [b"record"]))
        await settlement.close()
    assert await recorded(redis) == [b"record"]


async def test_nothing_is_recorded_of_a_closed_delivery(
    redis: Redis, settlement: Settlement, delivery: Delivery
) -> None:
    await settlement.close_delivery(delivery)
    settlement.add_step(SettlementStep(delivery, ("b",), [b"record"]))
    await settlement.close()
    assert await recorded(redis) == []


async def test_recorded_events_of_an_open_delivery_are_marked_as_settled(
    redis: Redis, settlement: Settlement, delivery: Delivery
) -> None:
    for name in "ab":
        settlement.add_step(SettlementStep(delivery, (name,), [b"record"]))
    await settlement.close()
    assert await redis.smembers(keys.settled_events(delivery.portal_id, delivery.id)) == {b"a", b"b"}  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_lanes_are_released_unless_another_holds_them(redis: Redis, settlement: Settlement) -> None:
    await redis.mset({"lane:1": "ours", "lane:2": "another's", "lane:3": "ours later"})
    for key, token in (("lane:1", "ours"), ("lane:2", "ours"), ("lane:3", "ours later"), ("lane:4", "ours")):
        settlement.release_lane(Lane(key, token, 0.0))
    await settlement.close()
    assert await redis.keys("lane:*") == [b"lane:2"]
