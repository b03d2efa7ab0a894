"""Pages of audit records, and their descriptions."""

from dataclasses import fields

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import FIELD_NAMES
from spokes.audit.sql.queries import Filters
from spokes.console.queries.history.descriptions import describe
from spokes.console.queries.history.records import RecordView, search_records
from spokes.queue.dead_letters import DeadLetters
from tests.console.queries.helpers import OTHER_PORTAL, PORTAL, archive, store_letter
from tests.support.events import append_records, record


async def test_pages_of_records_join_without_gap_or_overlap(redis: Redis, store: AsyncEngine) -> None:
    await append_records(
        redis, *(record(at, at=1000 + at // 3) for at in range(8)), record(9, portal_id=OTHER_PORTAL, at=1)
    )
    await archive(redis, store)
    seqs, after = [], None
    while True:
        page = await search_records(store, frozenset({PORTAL}), Filters(), limit=3, after=after)
        seqs += [record.seq for record in page.items]
        after = page.next
        if after is None:
            break
    assert seqs == [8, 7, 6, 5, 4, 3, 2, 1]


async def test_operator_action_is_described_with_actor_and_reason(redis: Redis, store: AsyncEngine) -> None:
    letter = await store_letter(redis, 1)
    await DeadLetters(redis).replay([letter], actor="ada", reason="token renewed")
    await archive(redis, store)
    page = await search_records(store, None, Filters(actor="ada"))
    assert [describe(record) for record in page.items] == ["Replayed: queued again by ada: token renewed"]


def test_record_view_has_every_field_of_an_audit_record() -> None:
    assert {field.name for field in fields(RecordView)} == {*FIELD_NAMES, "seq"}
