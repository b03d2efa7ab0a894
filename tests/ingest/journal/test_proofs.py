"""ingest.journal.proofs: what the journal has covered closes gaps, and nothing else does."""

import pytest
from redis.asyncio import Redis

from ingest.journal.proofs import JournalProofs
from spokes.core.events import Event
from spokes.core.redis.keys import GAP_REPORTS, JOURNAL_SCOPES, OPEN_GAPS
from spokes.gaps.gap import Proof, ProvenInterval
from spokes.gaps.reports import decode
from spokes.simulator.app import Simulator
from tests.ingest.journal.conftest import SteppedReader
from tests.ingest.journal.test_reader import create
from tests.support.events import event

HOUR = 3_600_000


@pytest.fixture
def proofs(redis: Redis) -> JournalProofs:
    return JournalProofs(redis)


async def reported(redis: Redis) -> list[object]:
    return [decode(payload) for payload in await redis.lrange(GAP_REPORTS, 0, -1)]  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_interval_since_the_first_page_with_a_scope_is_proven(redis: Redis, proofs: JournalProofs) -> None:
    await redis.set(OPEN_GAPS, 1)
    proofs.note(
        [
            Event(event(1, portalId=7)),
            Event(
                event(
                    2,
                    portalId=7,
                    subscriptionType="contact.associationChange",
                    fromObjectId=1,
                    toObjectId=2,
                    fromObjectTypeId="0-1",
                )
            ),
        ]
    )
    await proofs.keep(10 * HOUR)
    proofs.note([Event(event(3, portalId=7))])
    await proofs.keep(11 * HOUR)
    await proofs.report(12 * HOUR)
    expected = {"since": 10 * HOUR, "until": 12 * HOUR - 300_000, "proof": Proof.JOURNAL, "portal_id": 7}
    found = sorted((each for each in await reported(redis) if isinstance(each, ProvenInterval)), key=lambda p: p.scope)
    assert found == [
        ProvenInterval(**expected, scope="contact"),
        ProvenInterval(**expected, scope="contact.associationChange"),
    ]  # type: ignore[arg-type]  # values of several types


async def test_nothing_is_reported_while_no_gap_is_open(redis: Redis, proofs: JournalProofs) -> None:
    proofs.note([Event(event(1))])
    await proofs.keep(HOUR)
    await proofs.report(2 * HOUR)
    assert await reported(redis) == []


async def test_lost_pages_begin_the_cover_again(redis: Redis, proofs: JournalProofs) -> None:
    await redis.set(OPEN_GAPS, 1)
    proofs.note([Event(event(1))])
    await proofs.keep(HOUR)
    await proofs.forget()
    proofs.note([Event(event(2))])
    await proofs.keep(5 * HOUR)
    await proofs.report(6 * HOUR)
    assert [each.since for each in await reported(redis) if isinstance(each, ProvenInterval)] == [5 * HOUR]


async def test_unreadable_cover_proves_nothing(redis: Redis, proofs: JournalProofs) -> None:
    await redis.set(OPEN_GAPS, 1)
    await redis.hset(JOURNAL_SCOPES, mapping={"x:contact": 1, "7:contact": "soon", b"\xff": 1})
    await proofs.report(6 * HOUR)
    assert await reported(redis) == []


async def test_reader_stores_what_the_journal_covers(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    create(sim, 1)
    await reader.read_all()
    names = {name.decode() for name in await redis.hkeys(JOURNAL_SCOPES)}  # type: ignore[misc]  # as above
    assert names == {f"{sim.portal.config.portal_id}:contact"}
