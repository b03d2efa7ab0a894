"""spokes.backfill.recovery_report: each event of a gap is counted once, as it ended."""

from spokes.audit.archiver import Archiver
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append_now
from spokes.backfill.recovery_report import count_events, recovery_report
from spokes.gaps.gap import GapCause, MissedInterval
from tests.backfill.conftest import HOUR_MS, World
from tests.support.deployment import KEY


def test_event_counts_once_as_it_ended_last() -> None:
    report = count_events(
        [
            ("a", "retried"), ("a", "processed"), ("b", "superseded"), ("c", "dead"), ("d", "retried"),
            ("e", "duplicate"), ("a", "duplicate"), ("f", "coalesced"),
        ]
    )  # fmt: skip
    assert (report.missed, report.recovered, report.known) == (5, 5, 1)
    assert (report.handled, report.superseded, report.failed, report.in_progress) == (2, 1, 1, 1)


def test_duplicate_that_is_admitted_later_is_recovered() -> None:
    assert count_events([("a", "duplicate"), ("a", "processed")]).recovered == 1


def test_lost_records_are_missed() -> None:
    assert count_events([], lost=3).missed == 3


async def test_report_of_a_closed_gap_counts_its_interval_and_the_calls(world: World) -> None:
    world.hands.advance(10 * 3600)
    record = world.contact(1, phone="1")
    world.hands.advance(20 * 3600)
    missed = MissedInterval(
        portal_id=world.portal_id, scope="contact", since=record.created_at_ms - HOUR_MS,
        until=record.created_at_ms + HOUR_MS, cause=GapCause.NO_WEB_PROCESS,
    )  # fmt: skip
    await world.ledger.report(missed)
    (gap,) = (await world.run(world.new_backfill())).closed
    for key, occurred_at in (("in", record.created_at_ms), ("after", record.created_at_ms + HOUR_MS)):
        outcome = AuditRecord(
            action=Action.EVENT, outcome=Outcome.PROCESSED, portal_id=world.portal_id, event_key=key,
            object_type="contact", occurred_at=occurred_at, detail={"intake": "backfill"},
        )  # fmt: skip
        await append_now(world.redis, outcome)
    await Archiver(world.redis, world.engine, KEY).drain()
    report = await recovery_report(world.engine, world.store, gap)
    assert report is not None
    assert (report.missed, report.handled, report.lost, report.waiting) == (1, 1, 0, 0)
    assert report.calls["search"] >= 2


async def test_open_gap_has_no_report(world: World) -> None:
    await world.ledger.report(MissedInterval(since=1, until=2, cause=GapCause.NO_TRAFFIC))
    (gap,) = await world.ledger.list()
    assert await recovery_report(world.engine, world.store, gap) is None
