"""Requests that come again: each of HubSpot's is recorded, and replays of a captured one leave few records."""

import asyncio

from redis.asyncio import Redis

from spokes.audit.records import AuditRecord, Outcome
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import parse_body
from spokes.intake.classification import classify
from spokes.intake.dedupe.redeliveries import is_recorded
from spokes.intake.event_keys import EventKeys
from tests.intake.test_admission import classified, keys_of, queued_keys
from tests.support.events import recorded


def test_redeliveries_are_recorded_at_growing_intervals() -> None:
    assert [times for times in range(1, 1_000) if is_recorded(times)] == [*range(1, 11), 20, 40, 80, 160, 320, 640]


def duplicates_in(records: list[AuditRecord]) -> list[AuditRecord]:
    return [record for record in records if record.outcome is Outcome.DUPLICATE]


async def test_known_event_leaves_a_record_of_its_own(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(1))
    second = classified(1, 2)
    await admission.admit(second)
    (duplicate,) = duplicates_in(await recorded(redis))
    assert ([duplicate.event_key], bool(duplicate.object_id)) == (keys_of(classified(1)), True)
    assert (duplicate.delivery_id, duplicate.detail) == (second.id, {})


async def test_known_events_of_a_request_leave_one_record_that_names_them(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(1, 2))
    await admission.admit(classified(1, 2))
    (duplicate,) = duplicates_in(await recorded(redis))
    assert duplicate.detail == {"events": 2, "keys": keys_of(classified(1, 2))}


async def test_each_of_ten_redeliveries_is_recorded_and_counted(redis: Redis, admission: Admission) -> None:
    """HubSpot sends a request up to ten times."""
    for _ in range(11):
        await admission.admit(classified(1, 2))
    records = await recorded(redis)
    assert [record.detail.get("times", 1) for record in duplicates_in(records)] == list(range(1, 11))
    assert len(records) == 1 + 2 * 10  # with the record of each delivery


async def test_request_replayed_many_times_leaves_few_records(redis: Redis, admission: Admission) -> None:
    deliveries = [await admission.admit(classified(*range(100))) for _ in range(251)]
    records = await recorded(redis)
    assert {delivery.duplicate_count for delivery in deliveries[1:]} == {100}
    assert [record.detail.get("times") for record in duplicates_in(records)[10:]] == [20, 40, 80, 160]
    assert len(records) == 1 + 2 * 14


async def test_unrecorded_redelivery_queues_its_new_events(redis: Redis, admission: Admission) -> None:
    await admission.admit(classified(1, 2))
    for number in range(3, 15):
        admitted = await admission.admit(classified(1, 2, number))
        assert (len(admitted.events), admitted.duplicate_count) == (1, 2)
    assert len(await queued_keys(redis)) == 14
    assert len(duplicates_in(await recorded(redis))) == 10


async def test_replayed_request_without_events_leaves_few_records(redis: Redis, admission: Admission) -> None:
    """Its elements are no events, so none of them is ever known."""
    keys = EventKeys(b"key")
    for _ in range(30):
        body = parse_body(b'[{"eventId": 1}, {"eventId": 2}]')
        (delivery,) = classify(body, allow_list=AllowList([]), keys=keys, portal_ids=(), now_ms=1)
        await admission.admit(delivery)
    assert len(await recorded(redis)) == 3 * 11


async def test_replays_at_the_same_time_take_no_connection_from_admission(redis: Redis) -> None:
    admission = Admission(redis, dedupe_ttl_s=3600)
    await admission.admit(classified(1, 2))
    await asyncio.gather(*(admission.admit(classified(1, 2)) for _ in range(100)))
    assert len(duplicates_in(await recorded(redis))) == 13
    await admission.close()
