"""workers.lanes.merge_map: events of merged records run on the surviving record."""

from redis.asyncio import Redis

from spokes.core.errors import ObjectNotFound
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.queue.dead_letters import DeadLetters
from tests.support.events import recorded
from tests.workers.harness import PORTAL, Harness, change, merge, object_event


async def test_event_of_a_merged_record_runs_on_the_survivor(harness: Harness) -> None:
    await harness.run((merge(2, 1),))
    await harness.run((change("x", 9),))
    assert harness.calls[-1][0] == "2"


async def test_audit_detail_does_not_hold_the_merged_id(harness: Harness, redis: Redis) -> None:
    """The chain covers the detail, so no erasure could remove the id."""
    await harness.run((merge(2, 318845123451),))
    await harness.run((change("x", 9, object_id=318845123451),))
    details = [record.detail for record in await recorded(redis)]
    assert [detail for detail in details if "318845123451" in str(detail)] == []
    assert any(detail.get("merged") for detail in details)


async def test_merge_is_recorded_before_the_other_events_of_its_delivery(harness: Harness) -> None:
    await harness.run((change("x", 1), merge(2, 1)))
    assert {call[0] for call in harness.calls} == {"2"}


async def test_chain_of_merges_leads_to_the_last_survivor_in_any_order(harness: Harness) -> None:
    await harness.run((merge(3, 2),))
    await harness.run((merge(2, 1),))
    await harness.run((change("x", 9),))
    assert harness.calls[-1][0] == "3"


async def test_deletion_of_a_merged_record_is_part_of_the_merge(harness: Harness) -> None:
    await harness.run((merge(2, 1), object_event("deletion", 1, at=6)))
    assert ("merged", "record_merged_away") in await harness.outcomes()


async def test_survivor_inherits_newest_timestamps(harness: Harness) -> None:
    await harness.run((change("new", 8),))
    await harness.run((merge(2, 1, at=9),))
    await harness.run((change("old", 7, object_id=2),))
    assert (await harness.outcomes())[-1][0] == "superseded"


async def test_survivor_inherits_once_effects(harness: Harness, redis: Redis) -> None:
    await redis.hset(keys.once_effects(PORTAL, "contact", "1"), "note", "100")
    await redis.expire(keys.once_effects(PORTAL, "contact", "1"), 100)
    await redis.set(keys.once_effects(PORTAL, "contact", "1") + ":note", 1, ex=20)
    await harness.run((merge(2, 1),))
    assert await redis.hget(keys.once_effects(PORTAL, "contact", "2"), "note") == b"100"
    assert 0 < await redis.ttl(keys.once_effects(PORTAL, "contact", "2") + ":note") <= 20


async def test_missing_record_that_was_merged_is_retried_as_the_survivor(harness: Harness) -> None:
    await harness.parts.merge_map.record([Event(merge(2, 1))])
    await harness.redis.delete(keys.has_merges(PORTAL))  # as if the merge had been recorded during the run
    harness.errors = [ObjectNotFound(status=404)]
    await harness.run((change("x", 9),))
    assert await harness.outcomes() == [("parked", "record_merged_away")]


async def test_value_of_a_merged_record_is_not_passed_as_the_survivors(harness: Harness) -> None:
    await harness.run((merge(2, 1),))
    await harness.run((change("the loser's", 9),))
    assert harness.calls[-1][:3] == ("2", "", "")


async def test_merge_replays_the_dead_letters_of_the_merged_record(harness: Harness, redis: Redis) -> None:
    harness.errors = [ObjectNotFound(status=404)]
    await harness.run((change("x", 9),))
    await harness.run((merge(2, 1),))
    assert [letter async for letter in DeadLetters(redis).list(PORTAL)] == []
    assert ("replayed", "record_merged_away") in await harness.outcomes()


async def test_merge_recorded_during_settlement_prevents_the_dead_letter(harness: Harness) -> None:
    """The other worker that recorded the merge has searched for dead letters to replay, and found none yet."""
    merge_map = harness.parts.merge_map
    surviving_id = merge_map.surviving_id

    async def surviving_id_before_merge(event: Event) -> str:
        object_id = await surviving_id(event)
        await merge_map.record([Event(merge(2, 1))])
        return object_id

    merge_map.surviving_id = surviving_id_before_merge  # type: ignore[method-assign]
    harness.errors = [ObjectNotFound(status=404)]
    await harness.run((change("x", 9),))
    assert await harness.outcomes() == [("parked", "record_merged_away")]


async def test_circle_of_merges_is_not_followed_for_ever(harness: Harness) -> None:
    await harness.run((merge(2, 1), merge(1, 2)))
    await harness.run((change("x", 9),))
    assert len(harness.calls) == 3
