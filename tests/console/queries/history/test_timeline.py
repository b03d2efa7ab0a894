"""Timeline of a CRM object, on a real Valkey and both databases."""

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.console.queries.history.descriptions import describe
from spokes.console.queries.history.events import find_event
from spokes.console.queries.history.objects import Reference
from spokes.console.queries.history.timeline import Timeline, load_timeline
from spokes.core.events import Event
from tests.console.queries.helpers import CONTACT_ID, OTHER_PORTAL, PORTAL, archive, enqueue, store_letter
from tests.support.deployment import KEY
from tests.support.events import append_records, event, record
from workers.lanes.merge_map import MergeMap

HASH_KEY = object_hash_key(KEY)


async def timeline_of(
    redis: Redis, engine: AsyncEngine, text: str = CONTACT_ID, portals: frozenset[int] | None = None
) -> Timeline:
    return await load_timeline(redis, engine, portals, Reference.from_text(text), hash_key=HASH_KEY)


async def test_timeline_goes_from_receipt_to_write(redis: Redis, store: AsyncEngine) -> None:
    head = {"received": 2, "admitted": 1, "duplicate": 0, "ignored": {"deal.deletion": 1}, "set_aside": 0}
    write = {"method": "contacts.update", "properties": ["phone"], "ok": True}
    await append_records(
        redis,
        AuditRecord(action=Action.DELIVERY_RECEIVED, portal_id=PORTAL, delivery_id="d", detail=head, at=1),
        record(1, delivery_id="d", outcome=Outcome.RETRIED, reason="rate_limited", attempt=1, at=2,
               detail={"moved_to": "e", "delay_s": 2}),
        record(1, action=Action.CRM_WRITE, outcome=None, object_type="task", object_id="9", delivery_id="e", at=3,
               id="w", detail=write),
        record(1, delivery_id="e", at=4, id="p", attempt=2),
        record(1, outcome=Outcome.DEAD, reason="invalid_request", at=5, id="x", detail={"told": ["EMAIL_INVALID"]}),
    )  # fmt: skip
    await archive(redis, store)
    timeline = await timeline_of(redis, store)
    assert [describe(record) for record in timeline.records] == [
        "Gave up: now a dead letter: invalid request (EMAIL_INVALID)",
        "Processed",
        "Wrote to HubSpot: contacts.update (phone)",
        "Failed; will be retried: HubSpot's rate limit was reached (429); next attempt after 2 s",
        "Received a delivery of 2 events: 1 admitted, 1 deal.deletion ignored: no handler is registered",
    ]


async def test_timeline_names_the_intake(redis: Redis, store: AsyncEngine) -> None:
    head = {"received": 1, "admitted": 1, "intake": "journal", "origin": "9b2f"}
    await append_records(
        redis,
        AuditRecord(action=Action.DELIVERY_RECEIVED, portal_id=PORTAL, delivery_id="d", detail=head, at=1),
        record(1, delivery_id="d", at=2, detail={"intake": "journal"}),
    )
    await archive(redis, store)
    assert [describe(record) for record in (await timeline_of(redis, store)).records] == [
        "Processed, read from HubSpot's journal",
        "Received a delivery of 1 events, read from HubSpot's journal: 1 admitted",
    ]


async def test_unarchived_record_is_included_once(redis: Redis, store: AsyncEngine) -> None:
    await append_records(redis, record(1, id="a", at=1))
    await archive(redis, store)
    await append_records(redis, record(1, id="a", at=1), record(1, id="b", at=2))
    timeline = await timeline_of(redis, store)
    assert [(record.id, record.seq) for record in timeline.records] == [("b", None), ("a", 1)]


@pytest.mark.parametrize("text", [CONTACT_ID, "52", "53"])
async def test_merges_are_followed_in_both_directions(redis: Redis, store: AsyncEngine, text: str) -> None:
    """The record was merged into 52, and that into 53."""
    for merged_id, surviving_id, key in ((CONTACT_ID, "52", "k1"), ("52", "53", "k2")):
        merge = {"event_key": key, "subscription_type": "contact.merge", "object_id": surviving_id}
        merged = {"event_key": key, "action": Action.OBJECT_MERGED, "outcome": None, "object_id": merged_id}
        await append_records(redis, record(1, id=key, **merge), record(1, id=f"{key}l", **merged))
    await append_records(redis, record(1, id="mine", reason="of the merged record"))
    await archive(redis, store)
    timeline = await timeline_of(redis, store, text)
    assert [matched.ids for matched in timeline.objects] == [{CONTACT_ID, "52", "53"}]
    assert "mine" in {record.id for record in timeline.records}


async def test_unrecorded_merge_is_followed(redis: Redis, store: AsyncEngine) -> None:
    merge = event(1, subscriptionType="contact.merge", objectId=52, primaryObjectId=int(CONTACT_ID), newObjectId=52)
    await MergeMap(redis).record([Event({**merge, "mergedObjectIds": [51]})])
    await append_records(redis, record(1, id="a"), record(2, id="b", object_id="52"))
    await archive(redis, store)
    timeline = await timeline_of(redis, store)
    assert {record.id for record in timeline.records} == {"a", "b"}


async def test_waiting_event_is_included(redis: Redis, store: AsyncEngine) -> None:
    job = await enqueue(redis, event(1), event(2), due_in_s=60)
    timeline = await timeline_of(redis, store)
    assert [(pending.job.delivery.id, pending.job.in_progress) for pending in timeline.pending] == [(job, False)]


async def test_dead_letter_is_included(redis: Redis, store: AsyncEngine) -> None:
    letter = await store_letter(redis, 1)
    await append_records(redis, record(1, outcome=Outcome.DEAD))
    await archive(redis, store)
    timeline = await timeline_of(redis, store)
    assert timeline.letters == (letter,)


async def test_object_of_another_portal_with_the_same_id_is_not_shown(redis: Redis, store: AsyncEngine) -> None:
    await append_records(redis, record(1, id="a"), record(1, id="b", portal_id=OTHER_PORTAL))
    await store_letter(redis, 1, portal=OTHER_PORTAL)
    await enqueue(redis, event(1, portalId=OTHER_PORTAL), portal=OTHER_PORTAL)
    await append_records(redis, record(1, id="c", portal_id=OTHER_PORTAL))
    timeline = await timeline_of(redis, store, portals=frozenset({PORTAL}))
    before = {record.id for record in timeline.records}, timeline.letters, timeline.pending, len(timeline.objects)
    await archive(redis, store)
    archived = await timeline_of(redis, store, portals=frozenset({PORTAL}))
    assert (before, {record.id for record in archived.records}) == (({"a"}, (), (), 1), {"a"})


async def test_erased_object_shows_only_its_erasure(redis: Redis, store: AsyncEngine) -> None:
    await append_records(redis, record(1, id="a", at=1))
    await archive(redis, store)
    await append_records(redis, record(1, id="e", at=2, action=Action.PRIVACY_ERASED, outcome=None))
    await archive(redis, store)
    for text in (
        f"https://app.hubspot.com/contacts/{PORTAL}/record/0-1/{CONTACT_ID}",
        f"contact {CONTACT_ID}",
        CONTACT_ID,
    ):
        timeline = await timeline_of(redis, store, text)
        assert (timeline.records, timeline.erased_at) == ((), 2), text


async def test_erasure_has_its_own_time_and_is_shown_to_its_own_portal(redis: Redis, store: AsyncEngine) -> None:
    """The erasure is archived in one batch with a later record of another portal."""
    erased = record(1, id="e", at=2, action=Action.PRIVACY_ERASED, outcome=None)
    await append_records(redis, erased, record(2, id="z", at=9, portal_id=OTHER_PORTAL, object_type="deal"))
    await archive(redis, store)
    timelines = [
        await timeline_of(redis, store, CONTACT_ID, portals)
        for portals in (None, frozenset({PORTAL}), frozenset({OTHER_PORTAL}))
    ]
    assert [timeline.erased_at for timeline in timelines] == [2, 2, None]


async def test_older_records_are_on_the_following_pages(redis: Redis, store: AsyncEngine) -> None:
    await append_records(redis, *(record(1, id=str(at), at=at) for at in range(1, 6)))
    await archive(redis, store)
    await append_records(redis, record(1, id="6", at=6))
    pages, after = [], None
    while True:
        timeline = await load_timeline(
            redis, store, None, Reference(CONTACT_ID), hash_key=HASH_KEY, limit=2, after=after
        )
        pages.append([record.at for record in timeline.records])
        after = timeline.next
        if after is None:
            break
    assert pages == [[6, 5, 4], [3, 2], [1]]


@pytest.mark.parametrize("after", ["x", "1", "1.x", "9" * 30 + ".1", "-1.1"])
async def test_invalid_cursor_is_refused(redis: Redis, store: AsyncEngine, after: str) -> None:
    await append_records(redis, record(1))
    with pytest.raises(ValueError, match=after):
        await load_timeline(redis, store, None, Reference(CONTACT_ID), hash_key=HASH_KEY, after=after)


async def test_all_deliveries_and_writes_are_included(redis: Redis, store: AsyncEngine) -> None:
    """A hundred deliveries, each with its opening record, an event, and a write to another object."""
    for at in range(100):
        event_of = {"delivery_id": f"d{at}", "event_key": f"k{at}"}
        write = record(2, id=f"w{at}", action=Action.CRM_WRITE, outcome=None, **event_of)
        head = AuditRecord(action=Action.DELIVERY_RECEIVED, portal_id=PORTAL, delivery_id=f"d{at}", id=f"h{at}")
        await append_records(redis, head, record(1, id=f"e{at}", **event_of), write)
    unarchived = await timeline_of(redis, store)
    await archive(redis, store)
    stored = await timeline_of(redis, store)
    assert [(len(timeline.records), timeline.truncated) for timeline in (unarchived, stored)] == [(300, False)] * 2


async def test_timeline_is_truncated_when_an_id_matches_too_many_objects(redis: Redis, store: AsyncEngine) -> None:
    await append_records(redis, *(record(1, id=str(at), portal_id=at) for at in range(1, 22)))
    await archive(redis, store)
    timeline = await timeline_of(redis, store)
    assert (len(timeline.objects), timeline.truncated) == (20, True)


async def test_unknown_object_has_an_empty_timeline(redis: Redis, store: AsyncEngine) -> None:
    timeline = await timeline_of(redis, store)
    assert timeline == Timeline(reference=Reference(CONTACT_ID))


REDELIVERED = {"events": 2, "keys": ["key-1", "other"], "times": 3}


async def redeliver(redis: Redis, store: AsyncEngine, *, portal: int = PORTAL) -> None:
    """Archive an event, then the record of a request that came again with it and another one."""
    await append_records(redis, record(1, id="first", event_key="key-1", at=1_000, portal_id=portal))
    await archive(redis, store)
    fields = {"id": "again", "at": 2_000, "portal_id": PORTAL, "delivery_id": "r", "detail": REDELIVERED}
    await append_records(redis, AuditRecord(action=Action.EVENT, outcome=Outcome.DUPLICATE, **fields))


async def test_redelivery_with_other_events_is_included(redis: Redis, store: AsyncEngine) -> None:
    """Whether archived or not."""
    await redeliver(redis, store)
    before = await timeline_of(redis, store)
    await archive(redis, store)
    after = await timeline_of(redis, store)
    sentences = [[describe(record) for record in timeline.records] for timeline in (before, after)]
    duplicate = "Dropped: the same event was admitted before, with 1 others of its request; sent again 3 times so far"
    assert sentences == [[duplicate, "Processed"]] * 2


async def test_redelivery_is_in_the_history_of_its_event(redis: Redis, store: AsyncEngine) -> None:
    await redeliver(redis, store)
    for _ in range(2):
        found = await find_event(redis, store, None, "key-1")
        assert found is not None
        assert ([record.id for record in found.records], found.state) == (["again", "first"], "processed")
        await archive(redis, store)


async def test_redelivery_of_another_portal_is_not_shown(redis: Redis, store: AsyncEngine) -> None:
    await redeliver(redis, store, portal=OTHER_PORTAL)
    for _ in range(2):
        timeline = await timeline_of(redis, store, portals=frozenset({OTHER_PORTAL}))
        assert [record.id for record in timeline.records] == ["first"]
        await archive(redis, store)
