"""Deliveries and single events, found by id."""

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.sql.queries import Filters
from spokes.console.queries.history.deliveries import find_delivery, search_deliveries
from spokes.console.queries.history.descriptions import describe
from spokes.console.queries.history.events import find_event
from spokes.console.queries.history.records import search_records
from tests.console.queries.helpers import OTHER_PORTAL, PORTAL, archive, enqueue
from tests.support.events import append_records, event, record


async def test_event_is_found_with_its_attempts_and_waiting_delivery(redis: Redis, store: AsyncEngine) -> None:
    job = await enqueue(redis, event(1), due_in_s=60)
    key = f"{1:020x}"
    await append_records(
        redis, record(1, event_key=key, outcome=Outcome.RETRIED, detail={"moved_to": job, "delay_s": 60})
    )
    details = await find_event(redis, store, None, key)
    assert details is not None
    assert details.waiting is not None
    assert (details.state, details.waiting.delivery.id, details.is_dead) == ("retried", job, False)


async def test_delivery_counts_the_outcomes_of_its_events(redis: Redis, store: AsyncEngine) -> None:
    head = AuditRecord(action=Action.DELIVERY_RECEIVED, portal_id=PORTAL, delivery_id="d", detail={"received": 3}, at=5)
    outcomes = (Outcome.PROCESSED, Outcome.PROCESSED, Outcome.DUPLICATE)
    await append_records(redis, head, *(record(at, delivery_id="d", outcome=o) for at, o in enumerate(outcomes)))
    await archive(redis, store)
    details = await find_delivery(redis, store, None, "d")
    assert details is not None
    assert details.received is not None
    assert (details.received.received, details.outcomes) == (3, {"processed": 2, "duplicate": 1})
    assert await find_delivery(redis, store, frozenset({OTHER_PORTAL}), "d") is None
    assert [delivery.id for delivery in (await search_deliveries(store, None)).items] == ["d"]


async def test_delivery_of_several_requests_names_them(redis: Redis, store: AsyncEngine) -> None:
    detail = {"received": 2, "admitted": 2, "requests": ["r1", "r2"]}
    await append_records(
        redis, AuditRecord(action=Action.DELIVERY_RECEIVED, portal_id=PORTAL, delivery_id="d", detail=detail, at=5)
    )
    await archive(redis, store)
    details = await find_delivery(redis, store, None, "d")
    assert details is not None
    assert details.received is not None
    assert details.received.requests == ("r1", "r2")
    (record,) = (await search_records(store, None, Filters(), limit=5)).items
    assert describe(record) == "Received a delivery of 2 events in 2 requests: 2 admitted"
