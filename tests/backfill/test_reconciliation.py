"""spokes.backfill.reconciliation against the simulator over HTTP: what never arrived is found, and nothing else."""

from dataclasses import dataclass

import pytest
from sqlalchemy import select

from spokes.audit.direct_records import DirectRecords
from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.received_events import ReceivedEvents
from spokes.backfill.reconciliation import Comparison, Reconciliation, is_archived, newest_settled_day, plans_of
from spokes.backfill.record_events import Interval
from spokes.core import clock
from spokes.core.events import Event, RawEvent
from spokes.core.masking import derive_key
from spokes.core.redis.keys import AUDIT_STREAM
from spokes.gaps.gap import GapCause
from spokes.intake.allow_list import AllowList
from spokes.intake.event_keys import EventKeys
from spokes.simulator.crm.records import CrmRecord
from tests.backfill.conftest import HOUR_MS, PLAN, REGISTRATIONS, USER, World
from tests.support.deployment import KEY

WITHOUT_MERGES = BackfillPlan("contact", ("phone",), creations=True, deletions=True, merges=False)
KEYS = EventKeys(derive_key(KEY, "event keys"))


@dataclass
class Comparer:
    """Compares the 26 hours before now."""

    world: World

    async def compare(self, plan: BackfillPlan = PLAN, *, denied: tuple[str, ...] = ()) -> Comparison:
        world = self.world
        parts = Reconciliation(world.crm, world.engine, world.ledger, ReceivedEvents(world.redis, world.engine, KEYS))
        day = Interval(world.since, clock.now_ms())
        return await parts.compare(world.portal_id, plan, day, AllowList(REGISTRATIONS, denied))

    async def archive(self, *records: AuditRecord) -> None:
        async with write_connection(self.world.engine) as connection:
            await DirectRecords(KEY, 1000).append(connection, records)

    def record_of(self, raw: RawEvent) -> AuditRecord:
        event = Event(raw)
        return AuditRecord(
            action=Action.EVENT, portal_id=event.portal_id, event_key=KEYS(event), object_type=event.object_type,
            object_id=event.object_id, occurred_at=event.occurred_at,
        )  # fmt: skip

    def write_of(self, record: CrmRecord, *properties: str, method: str = "contacts.update") -> AuditRecord:
        return AuditRecord(
            action=Action.CRM_WRITE, portal_id=self.world.portal_id, object_type="contact", object_id=record.id,
            at=record.updated_at_ms + 500, detail={"method": method, "properties": list(properties), "ok": True},
        )  # fmt: skip

    def pushed(self, record: CrmRecord, value: str, *, late_ms: int = 0) -> RawEvent:
        return {
            "eventId": 1, "subscriptionId": 2, "portalId": self.world.portal_id, "appId": 3,
            "occurredAt": record.updated_at_ms + late_ms, "subscriptionType": "contact.propertyChange",
            "attemptNumber": 0, "objectId": int(record.id), "propertyName": "phone", "propertyValue": value,
            "changeSource": "CRM_UI", "sourceId": "userId:1",
        }  # fmt: skip

    async def old_contact(self, number: int = 1) -> CrmRecord:
        """Return a contact from before, changed in the interval."""
        record = self.world.contact(number, phone="1")
        self.world.hands.advance(10 * 3600)
        self.world.change(record, phone="2")
        self.world.hands.advance(20 * 3600)
        return record


@pytest.fixture
def comparer(world: World) -> Comparer:
    return Comparer(world)


async def test_changes_that_never_arrived_are_one_gap(world: World, comparer: Comparer) -> None:
    changed, deleted = world.contact(1, phone="1"), world.contact(2)
    world.hands.advance(10 * 3600)
    world.change(changed, phone="2")
    changed_at = changed.updated_at_ms
    world.hands.advance(3600)
    world.sim.crm.archive(deleted, world.sim.portal.config.own_source)
    world.hands.advance(19 * 3600)
    comparison = await comparer.compare()
    assert (comparison.events, comparison.missing) == (2, 2)
    (gap,) = await world.ledger.list()
    assert (gap.scope, gap.causes) == ("contact", (GapCause.NOT_RECEIVED,))
    assert (gap.since, gap.until) == (changed_at, (deleted.archived_at_ms or 0) + 1)


async def test_backfill_closes_the_gap_and_the_next_comparison_finds_none(world: World, comparer: Comparer) -> None:
    await comparer.old_contact()
    assert (await comparer.compare()).missing == 1
    assert len((await world.run(world.new_backfill())).closed) == 1
    assert (await comparer.compare()).missing == 0
    assert await world.ledger.list() == []


async def test_event_that_waits_in_the_queue_has_arrived(world: World, comparer: Comparer) -> None:
    record = await comparer.old_contact()
    await world.source.admit([comparer.pushed(record, "2")])
    assert ((comparison := await comparer.compare()).events, comparison.missing) == (1, 0)


async def test_event_whose_mark_has_expired_is_found_in_the_audit(world: World, comparer: Comparer) -> None:
    record = await comparer.old_contact()
    await comparer.archive(comparer.record_of(comparer.pushed(record, "2")))
    assert (await comparer.compare()).missing == 0


@pytest.mark.parametrize(("value", "late_ms", "missing"), [("2", 3_000, 0), ("", 0, 0), ("", 900, 0), ("9", 900, 1)])
async def test_event_may_differ_from_the_history_by_seconds_or_withhold_its_value(
    comparer: Comparer, value: str, late_ms: int, missing: int
) -> None:
    record = await comparer.old_contact()
    await comparer.archive(comparer.record_of(comparer.pushed(record, value, late_ms=late_ms)))
    assert (await comparer.compare()).missing == missing


async def test_change_of_a_property_without_a_handler_is_no_gap(world: World, comparer: Comparer) -> None:
    record = world.contact(1, phone="1")
    world.hands.advance(10 * 3600)
    world.change(record, firstname="Ada")
    world.hands.advance(20 * 3600)
    assert ((comparison := await comparer.compare()).records, comparison.events) == (1, 0)
    assert await world.ledger.list() == []


async def test_value_with_which_a_record_was_created_is_no_gap(world: World, comparer: Comparer) -> None:
    world.hands.advance(10 * 3600)
    record = world.contact(1, phone="1")
    world.hands.advance(20 * 3600)
    without_creations = BackfillPlan("contact", ("phone",), creations=False, deletions=False, merges=False)
    assert ((comparison := await comparer.compare(without_creations)).records, comparison.events) == (1, 0)
    world.change(record, phone="2")
    assert (await comparer.compare(without_creations)).missing == 1


async def test_event_that_the_deployment_excludes_is_no_gap(comparer: Comparer) -> None:
    await comparer.old_contact()
    assert (await comparer.compare(denied=("-contact.propertyChange:phone",))).events == 0


async def test_own_write_whose_event_did_not_come_is_no_gap(world: World, comparer: Comparer) -> None:
    record = world.contact(1, phone="1")
    world.hands.advance(10 * 3600)
    world.sim.crm.update(record, {"phone": "2"}, world.sim.portal.config.own_source)
    world.hands.advance(20 * 3600)
    await comparer.archive(comparer.write_of(record, "email", "phone"))
    assert ((comparison := await comparer.compare()).own, comparison.missing) == (1, 0)


async def test_change_by_a_person_beside_an_own_write_is_missing(comparer: Comparer) -> None:
    record = await comparer.old_contact()
    await comparer.archive(comparer.write_of(record, "phone"))
    assert ((comparison := await comparer.compare()).own, comparison.missing) == (0, 1)


async def test_record_that_we_created_is_no_gap(world: World, comparer: Comparer) -> None:
    world.hands.advance(10 * 3600)
    record = world.contact(1)
    world.hands.advance(20 * 3600)
    assert (await comparer.compare()).missing == 1
    await comparer.archive(comparer.write_of(record, "email", method="contacts.create"))
    assert ((comparison := await comparer.compare()).own, comparison.missing) == (1, 0)


async def test_event_of_a_record_that_was_merged_since_has_arrived(world: World, comparer: Comparer) -> None:
    primary, other = world.contact(1), world.contact(2)
    world.hands.advance(10 * 3600)
    world.change(primary, phone="2")
    pushed = comparer.pushed(primary, "2")
    world.hands.advance(3600)
    world.sim.crm.merge(primary, other, USER)
    world.hands.advance(19 * 3600)
    await world.source.admit([pushed])
    assert ((comparison := await comparer.compare(WITHOUT_MERGES)).records, comparison.missing) == (1, 0)


async def test_merge_that_never_arrived_is_missing_until_the_audit_has_it(world: World, comparer: Comparer) -> None:
    primary, other = world.contact(1, phone="1"), world.contact(2, phone="2")
    world.hands.advance(10 * 3600)
    merged = [primary.id, other.id]
    world.sim.crm.merge(primary, other, USER)
    world.hands.advance(20 * 3600)
    assert (await comparer.compare()).missing == 1
    await comparer.archive(
        *(
            AuditRecord(action=Action.OBJECT_MERGED, portal_id=world.portal_id, object_type="contact", object_id=id_)
            for id_ in merged
        )
    )
    assert (await comparer.compare()).missing == 0


async def test_comparison_is_in_the_audit_and_names_no_record(world: World, comparer: Comparer) -> None:
    record = await comparer.old_contact()
    await comparer.compare()
    query = select(RECORDS).where(RECORDS.c.action.in_([Action.RECONCILED, Action.GAP_OPENED]))
    rows = await fetch(world.engine, query)
    assert {row["action"] for row in rows} == {"reconciled", "gap.opened"}
    assert '"missing":1' in next(str(row["detail"]) for row in rows if row["action"] == "reconciled")
    assert record.id not in str([(row["detail"], row["object_id"]) for row in rows])


async def test_comparison_of_thousands_of_records_misses_none(world: World, comparer: Comparer) -> None:
    world.hands.advance(10 * 3600)
    for number in range(1_200):
        world.contact(number, phone="1")
    world.hands.advance(20 * 3600)
    comparison = await comparer.compare()
    assert (comparison.records, comparison.events, comparison.missing) == (1_200, 1_200, 1_200)
    assert len(await world.ledger.list()) == 1


async def test_day_is_not_compared_while_its_records_wait_for_the_archive(world: World) -> None:
    day = newest_settled_day(clock.now_ms())
    await world.redis.xadd(AUDIT_STREAM, {"r": "x"}, id=f"{day.until}-1")
    assert await is_archived(world.redis, day)
    await world.redis.delete(AUDIT_STREAM)
    assert await is_archived(world.redis, day)
    await world.redis.xadd(AUDIT_STREAM, {"r": "x"}, id=f"{day.until - 1}-1")
    assert not await is_archived(world.redis, day)


@pytest.mark.parametrize(
    ("registrations", "expected"),
    [
        (["contact.propertyChange:phone", "contact.propertyChange"], [("contact", ("phone",))]),
        (["contact.propertyChange"], []),
        (["deal.creation", "contact.associationChange", "object.creation", "conversation.newMessage"], [("deal", ())]),
        (["2-17.propertyChange:size", "object.propertyChange"], [("2-17", ("size",))]),
    ],
)
def test_types_and_properties_that_handlers_name_are_compared(
    registrations: list[str], expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert [(plan.object_type, plan.properties) for plan in plans_of(registrations)] == expected


@pytest.mark.parametrize(("hour", "days_ago"), [(1, 2), (3, 1), (23, 1)])
def test_day_is_settled_two_hours_after_its_end(hour: int, days_ago: int) -> None:
    midnight = 20_000 * 24 * HOUR_MS
    day = newest_settled_day(midnight + hour * HOUR_MS)
    assert day == (midnight - days_ago * 24 * HOUR_MS, midnight - (days_ago - 1) * 24 * HOUR_MS)
