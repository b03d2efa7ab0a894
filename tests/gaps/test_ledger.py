"""spokes.gaps.ledger on SQLite and PostgreSQL: gaps and their audit records."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from spokes.audit.sql.engine import read_connection
from spokes.audit.sql.tables import RECORDS
from spokes.core.errors import AuditUnavailable, RecoveryRefused
from spokes.gaps.gap import GapCause, MissedInterval, Proof, ProvenInterval, scopes_of
from spokes.gaps.ledger import GapLedger

DOWN = MissedInterval(since=1000, until=5000, cause=GapCause.NO_WEB_PROCESS)
PORTALS, SCOPES = (7, 8), ("contact", "deal")


async def recorded_actions(ledger: GapLedger) -> list[tuple[str, int, dict[str, object]]]:
    async with read_connection(ledger.engine) as connection:
        rows = (await connection.execute(select(RECORDS).order_by(RECORDS.c.seq))).mappings().all()
    return [(row["action"], row["portal_id"], orjson.loads(row["detail"])) for row in rows]


async def test_report_of_all_portals_opens_a_gap_of_each_portal_and_scope(ledger: GapLedger) -> None:
    await ledger.report(DOWN, portals=PORTALS, scopes=SCOPES)
    await ledger.report(DOWN, portals=PORTALS, scopes=SCOPES)
    gaps = await ledger.list()
    assert sorted(gap.subject for gap in gaps) == [(7, "contact"), (7, "deal"), (8, "contact"), (8, "deal")]
    assert [action for action, *_ in await recorded_actions(ledger)] == ["gap.opened"] * 4


async def test_report_without_known_portals_is_a_gap_of_all(ledger: GapLedger) -> None:
    await ledger.report(DOWN)
    assert [gap.subject for gap in await ledger.list()] == [(0, "")]


async def test_proof_closes_the_gaps_of_its_subject_with_a_record(ledger: GapLedger) -> None:
    await ledger.report(DOWN, portals=PORTALS, scopes=SCOPES)
    proven = ProvenInterval(portal_id=7, scope="contact", since=0, until=9000, proof=Proof.BACKFILL, backfill="b1")
    (closed,) = await ledger.prove(proven)
    assert (closed.subject, closed.proof, closed.backfill) == ((7, "contact"), Proof.BACKFILL, "b1")
    assert len(await ledger.list()) == 3
    assert await ledger.find(closed.id) == closed
    action, portal_id, detail = (await recorded_actions(ledger))[-1]
    assert (action, portal_id, detail["proof"], detail["gap"]) == ("gap.closed", 7, "backfill", closed.id)


async def test_proof_of_a_part_leaves_the_rest_open(ledger: GapLedger) -> None:
    await ledger.report(DOWN, portals=(7,), scopes=("contact",))
    await ledger.prove(ProvenInterval(portal_id=7, since=2000, until=3000, proof=Proof.JOURNAL))
    assert [(gap.since, gap.until) for gap in await ledger.list()] == [(1000, 2000), (3000, 5000)]
    assert len(await ledger.list(include_closed=True)) == 3
    assert [action for action, *_ in await recorded_actions(ledger)] == ["gap.opened", "gap.closed"]


async def test_operator_closes_a_gap_with_a_reason_only(ledger: GapLedger) -> None:
    await ledger.report(DOWN, portals=(7,), scopes=("contact",))
    (gap,) = await ledger.list()
    with pytest.raises(RecoveryRefused, match="needs a reason"):
        await ledger.close(gap.id, actor="ada", reason=" ")
    closed = await ledger.close(gap.id, actor="ada", reason="mail of ada@example.org says so")
    assert (closed.closed_by, closed.proof) == ("ada", Proof.OPERATOR)
    assert "ada@example.org" not in closed.reason
    with pytest.raises(RecoveryRefused, match="no open gap"):
        await ledger.close(gap.id, actor="ada", reason="again")


async def test_unknown_gap_is_refused(ledger: GapLedger) -> None:
    with pytest.raises(RecoveryRefused, match="There is no gap"):
        await ledger.find("0123abcd")


async def test_concurrent_reports_never_overlap(ledger: GapLedger) -> None:
    reports = [
        MissedInterval(portal_id=7, scope="contact", since=at, until=at + 15, cause=GapCause.NO_TRAFFIC)
        for at in range(0, 200, 10)
    ]
    await asyncio.gather(*map(ledger.report, reports))
    assert [(gap.since, gap.until) for gap in await ledger.list()] == [(0, 205)]


def test_scopes_are_types_of_records_and_kinds_that_no_record_shows() -> None:
    registrations = {
        "contact.creation", "contact.propertyChange:phone", "contact.associationChange", "deal.merge",
        "contact.privacyDeletion", "conversation.newMessage", "object.deletion",
    }  # fmt: skip
    assert scopes_of(registrations) == (
        "contact", "contact.associationChange", "contact.privacyDeletion", "conversation.newMessage", "deal",
        "object.deletion",
    )  # fmt: skip


async def test_gaps_of_many_portals_are_changed_some_hundred_at_a_time(ledger: GapLedger) -> None:
    portals = range(1, 701)
    for missed in (DOWN, replace(DOWN, since=4000, until=6000)):
        await ledger.report(missed, portals=portals, scopes=("contact",))
    assert await ledger.count_open() == {(GapCause.NO_WEB_PROCESS,): 700}
    assert {(gap.since, gap.until) for gap in await ledger.list()} == {(1000, 6000)}
    closed = await ledger.prove(ProvenInterval(since=0, until=9000, proof=Proof.JOURNAL))
    assert sorted(gap.portal_id for gap in closed) == [*portals]
    assert await ledger.count_open() == {}
    assert len(await recorded_actions(ledger)) == 1400


async def test_report_that_was_interrupted_is_completed_by_its_repetition(
    ledger: GapLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = GapLedger._store, iter(range(5))

    async def interrupted(self: GapLedger, *values: Any) -> None:
        if next(calls) == 1:
            raise AuditUnavailable
        await store(self, *values)

    monkeypatch.setattr(GapLedger, "_store", interrupted)
    with pytest.raises(AuditUnavailable):
        await ledger.report(DOWN, portals=range(1, 701), scopes=("contact",))
    await ledger.report(DOWN, portals=range(1, 701), scopes=("contact",))
    assert await ledger.count_open() == {(GapCause.NO_WEB_PROCESS,): 700}
    assert len(await recorded_actions(ledger)) == 700
