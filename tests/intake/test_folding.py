"""spokes.intake.folding: requests of one call become one delivery, in a real Valkey."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from spokes.audit.records import Outcome
from spokes.core.errors import QueueUnavailable
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE, dedupe_marks_prefix
from spokes.intake.admission import Admission
from spokes.intake.classification import ClassifiedDelivery
from spokes.intake.folding import fold, pending_request
from tests.intake.test_admission import classified, keys_of, of_imports, queued, queued_imports, queued_keys
from tests.support.events import recorded


async def admit_at_once(admission: Admission, *deliveries: ClassifiedDelivery) -> list[ClassifiedDelivery]:
    """Admit each delivery as a request of its own, all in one turn of the event loop."""
    requests = (admission.admit_together([delivery], f"r{at}") for at, delivery in enumerate(deliveries))
    return [delivery for (delivery,) in await asyncio.gather(*requests)]


async def test_requests_of_one_call_become_one_job(redis: Redis, admission: Admission) -> None:
    first, second, third = classified(1), classified(2), classified(3, 4)
    await admit_at_once(admission, first, second, third)
    (stored,) = await queued(redis)
    assert [entry.key for entry in stored.entries] == [*keys_of(first), *keys_of(second), *keys_of(third)]


async def test_each_request_names_the_delivery_that_holds_its_events(redis: Redis, admission: Admission) -> None:
    admitted = await admit_at_once(admission, classified(1), classified(2))
    (stored,) = await queued(redis)
    assert {delivery.id for delivery in admitted} == {stored.id}


async def test_head_record_counts_all_requests_and_lists_them(redis: Redis, admission: Admission) -> None:
    second = replace(classified(2), received_count=3, ignored={"deal.creation": 2})
    await admit_at_once(admission, classified(1), second)
    (head,) = await recorded(redis)
    counts = {"received": 4, "admitted": 2, "duplicate": 0, "ignored": {"deal.creation": 2}, "set_aside": 0}
    assert head.detail == {**counts, "requests": ["r0", "r1"]}


async def test_head_record_of_one_request_lists_none(redis: Redis, admission: Admission) -> None:
    await admit_at_once(admission, classified(1))
    assert "requests" not in (await recorded(redis))[0].detail


async def test_requests_of_several_intakes_are_stored_apart(redis: Redis, admission: Admission) -> None:
    await admit_at_once(admission, classified(1), replace(classified(2), intake="journal"))
    assert sorted(delivery.intake for delivery in await queued(redis)) == ["journal", "push"]


async def test_each_request_reports_its_own_duplicates(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(2))
    first, second = await admit_at_once(admission, classified(1), classified(2, 3))
    assert (first.duplicate_count, second.duplicate_count) == (0, 1)
    assert sorted(await queued_keys(redis)) == sorted([*keys_of(classified(1, 2)), *keys_of(classified(3))])
    duplicates = [record for record in await recorded(redis) if record.outcome is Outcome.DUPLICATE]
    assert [record.delivery_id for record in duplicates] == [second.id]


async def test_event_of_two_requests_of_one_call_is_queued_once(redis: Redis, admission: Admission) -> None:
    first, second = await admit_at_once(admission, classified(1), classified(1, 2))
    assert (first.duplicate_count, second.duplicate_count) == (0, 1)
    assert sorted(await queued_keys(redis)) == sorted(keys_of(classified(1, 2)))


async def test_requests_of_known_events_never_keep_others_from_being_stored(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(*range(50)))
    admitted = await admit_at_once(admission, *(classified(number, 100 + number) for number in range(50)))
    assert [len(delivery.events) for delivery in admitted] == [1] * 50
    assert len(await queued_keys(redis)) == 100


async def test_portals_and_priority_classes_stay_apart(redis: Redis, admission: Admission) -> None:
    other_portal = classified(2, portal_id=8)
    await admit_at_once(admission, classified(1), other_portal, of_imports(classified(3)))
    assert len(await queued_imports(redis)) == 1
    assert {delivery.portal_id for delivery in await queued(redis)} == {7, 8}


async def test_delivery_of_several_requests_has_at_most_a_hundred_events(redis: Redis, admission: Admission) -> None:
    await admit_at_once(admission, *(classified(*range(first, first + 30)) for first in range(0, 180, 30)))
    assert sorted(len(delivery.entries) for delivery in await queued(redis)) == [90, 90]


async def test_marks_of_another_type_refuse_only_the_request_that_needs_them(
    redis: Redis, admission: Admission
) -> None:
    late = classified(1)
    late.events[0].occurred_at -= 10 * 3_600_000
    await redis.hset(dedupe_marks_prefix(7, late.events[0].occurred_at // 3_600_000) + "n", "a", "b")
    good, bad = await asyncio.gather(
        admission.admit_together([classified(2)], "r1"), admission.admit_together([late], "r2"), return_exceptions=True
    )
    assert isinstance(bad, QueueUnavailable)
    assert isinstance(good, list)
    assert await queued_keys(redis) == keys_of(classified(2))


async def test_request_without_an_id_is_stored_alone(redis: Redis, admission: Admission) -> None:
    await asyncio.gather(admission.admit(classified(1)), admission.admit(classified(2)))
    assert await redis.zcard(JOB_QUEUE) == 2


async def test_one_job_key_is_written_for_all_requests(redis: Redis, admission: Admission) -> None:
    await admit_at_once(admission, *(classified(number) for number in range(5)))
    assert len([name async for name in redis.scan_iter(JOB_KEY_PREFIX + "*")]) == 1


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([7, 8]), st.integers(0, 3), st.sampled_from(["", "r"])),
             max_size=40)
)  # fmt: skip
def test_folding_keeps_every_event_once_and_in_order(requests: list[tuple[int, int, int, str]]) -> None:
    pending = [
        pending_request([classified(*range(count), portal_id=portal)], name and f"r{at}", refusals)
        for at, (count, portal, refusals, name) in enumerate(requests)
    ]
    groups = fold(pending)
    assert sorted(id(request) for group in groups for request in group.requests) == sorted(map(id, pending))
    for group in groups:
        own = [event for request in group.requests for event in request.deliveries[0].events]
        assert group.events == own
        assert len({(request.folds_by) for request in group.requests}) == 1
        assert len(group.requests) == 1 or (len(own) <= 100 and group.requests[0].folds_by is not None)


@pytest.mark.parametrize("known", [[], [0], [2, 3], [0, 1, 2, 3, 4, 5]])
def test_known_events_are_split_by_request(known: list[int]) -> None:
    (group,) = fold([pending_request([classified(*range(3))], f"r{at}", 0) for at in range(2)])
    split = group.split(known)
    assert [index + 3 * at for at, own in enumerate(split) for index in own] == known
