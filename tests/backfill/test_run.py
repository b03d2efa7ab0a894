"""spokes.backfill.run against the simulator over HTTP: nothing of an outage is left out, nothing comes twice."""

from dataclasses import replace

import pytest

from spokes.backfill.crm_reader import CRMReader, SearchPage
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.store import BackfillState
from spokes.backfill.window_walk import Query
from spokes.core.errors import RecoveryRefused
from spokes.gaps.gap import GapCause, MissedInterval, Proof
from spokes.simulator.config import PortalConfig
from tests.backfill.conftest import HOUR_MS, PLAN, World
from tests.support.deployment import TOKEN

PHONE_ONLY = BackfillPlan("contact", ("phone",), creations=False, deletions=False, merges=False, is_complete=False)


async def test_events_of_an_outage_are_those_that_hubspot_would_have_sent(world: World) -> None:
    old, untouched, deleted = world.contact(1, phone="1"), world.contact(2, phone="1"), world.contact(3)
    world.hands.advance(10 * 3600)
    world.change(old, phone="2")
    world.change(untouched, firstname="Ada")
    new = world.contact(4)
    world.hands.advance(60)
    world.change(old, phone="3")
    changed_at = old.updated_at_ms
    world.sim.crm.archive(deleted, world.sim.portal.config.own_source)
    world.hands.advance(20 * 3600 - 60)
    result = await world.run(world.new_backfill())
    assert await world.queued() == sorted(
        [
            ("contact.propertyChange", old.id, changed_at, "3"),
            ("contact.creation", new.id, new.created_at_ms, ""),
            ("contact.deletion", deleted.id, deleted.archived_at_ms, ""),
        ]
    )
    assert (result.backfill.state, result.backfill.counts.admitted) == (BackfillState.FINISHED, 3)


async def test_event_that_was_delivered_is_known(world: World) -> None:
    record = world.contact(1)
    world.hands.advance(10 * 3600)
    world.change(record, phone="2")
    world.hands.advance(20 * 3600)
    pushed = {
        "eventId": 1, "subscriptionId": 2, "portalId": world.portal_id, "appId": 3, "occurredAt": record.updated_at_ms,
        "subscriptionType": "contact.propertyChange", "attemptNumber": 0, "objectId": int(record.id),
        "propertyName": "phone", "propertyValue": "2", "changeSource": "CRM_UI", "sourceId": "userId:1",
    }  # fmt: skip
    await world.source.admit([pushed])
    counts = (await world.run(world.new_backfill())).backfill.counts
    assert (counts.admitted, counts.known) == (0, 1)


async def test_second_backfill_admits_nothing(world: World) -> None:
    world.hands.advance(10 * 3600)
    for number in range(30):
        world.contact(number, phone=str(number))
    world.hands.advance(20 * 3600)
    first = (await world.run(world.new_backfill())).backfill.counts
    second = (await world.run(world.new_backfill())).backfill.counts
    assert (first.admitted, second.admitted, second.known) == (60, 0, 60)


async def test_finished_backfill_closes_the_gap_of_its_type_only(world: World) -> None:
    world.hands.advance(30 * 3600)
    missed = MissedInterval(
        portal_id=world.portal_id, since=world.since + HOUR_MS, until=world.since + 2 * HOUR_MS,
        cause=GapCause.NO_WEB_PROCESS,
    )  # fmt: skip
    await world.ledger.report(missed, scopes=("contact", "contact.associationChange"))
    result = await world.run(world.new_backfill())
    assert [(gap.scope, gap.proof, gap.backfill) for gap in result.closed] == [
        ("contact", Proof.BACKFILL, result.backfill.id)
    ]
    assert [gap.scope for gap in await world.ledger.list()] == ["contact.associationChange"]


async def test_backfill_of_one_property_closes_no_gap(world: World) -> None:
    world.hands.advance(30 * 3600)
    missed = MissedInterval(
        portal_id=world.portal_id, scope="contact", since=world.since, until=world.since + HOUR_MS,
        cause=GapCause.NO_TRAFFIC,
    )  # fmt: skip
    await world.ledger.report(missed)
    result = await world.run(world.new_backfill(PHONE_ONLY), PHONE_ONLY)
    assert (result.closed, len(await world.ledger.list())) == ((), 1)


async def test_merge_of_the_outage_is_an_event_once(world: World) -> None:
    primary, other = world.contact(1), world.contact(2)
    world.hands.advance(10 * 3600)
    survivor = world.sim.crm.merge(primary, other, world.sim.portal.config.own_source)
    world.hands.advance(20 * 3600)
    await world.run(world.new_backfill())
    merges = [(kind, id_) for kind, id_, *_ in await world.queued() if kind == "contact.merge"]
    assert merges == [("contact.merge", survivor.id)]
    assert (await world.run(world.new_backfill())).backfill.counts.admitted == 0


MERGES_ONLY = BackfillPlan("contact", (), creations=False, deletions=False, merges=True)


@pytest.mark.parametrize("plan", [PLAN, MERGES_ONLY])
async def test_merge_that_was_pushed_is_known(world: World, plan: BackfillPlan) -> None:
    primary, other = world.contact(1), world.contact(2)
    world.hands.advance(10 * 3600)
    survivor = world.sim.crm.merge(primary, other, world.sim.portal.config.own_source)
    pushed = {
        "eventId": 1, "portalId": world.portal_id, "occurredAt": survivor.updated_at_ms, "objectId": int(survivor.id),
        "subscriptionType": "contact.merge", "primaryObjectId": int(primary.id), "mergedObjectIds": [int(other.id)],
        "newObjectId": int(survivor.id), "numberOfPropertiesMoved": 0,
    }  # fmt: skip
    assert (await world.source.admit([pushed]))["admitted"] == 1
    world.hands.advance(1)
    world.change(survivor, phone="7")
    world.hands.advance(20 * 3600)
    result = await world.run(world.new_backfill(plan), plan)
    assert [kind for kind, *_ in await world.queued() if kind == "contact.merge"] == []
    assert result.backfill.counts.known == 1


async def test_recycle_bin_is_read_from_its_beginning_if_its_cursor_is_refused(world: World) -> None:
    record = world.contact(1)
    world.hands.advance(10 * 3600)
    world.sim.crm.archive(record, world.sim.portal.config.own_source)
    world.hands.advance(20 * 3600)
    backfill = world.new_backfill()
    backfill = replace(backfill, checkpoint=replace(backfill.checkpoint, archived_after="no cursor of today"))
    result = await world.run(backfill)
    assert result.backfill.state is BackfillState.FINISHED
    assert [id_ for kind, id_, *_ in await world.queued() if kind == "contact.deletion"] == [record.id]


async def test_paused_backfill_continues_from_its_checkpoint(world: World) -> None:
    world.hands.advance(10 * 3600)
    for number in range(450):
        world.contact(number, phone="1")
    world.hands.advance(20 * 3600)
    backfill = world.new_backfill()

    async def pause() -> None:
        await world.store.request(backfill.id, BackfillState.PAUSED)

    paused = (await world.run(backfill, room=pause)).backfill
    assert (paused.state, paused.checkpoint.is_finished) == (BackfillState.PAUSED, False)
    claimed = await world.store.claim(backfill.id, "r2")
    finished = (await world.run(claimed, runner="r2", is_new=False)).backfill
    assert (finished.state, len(await world.queued())) == (BackfillState.FINISHED, 900)


async def test_backfill_that_another_process_continues_stops(world: World) -> None:
    world.hands.advance(10 * 3600)
    for number in range(10):
        world.contact(number, phone="1")
    world.hands.advance(20 * 3600)
    backfill = world.new_backfill()
    await world.store.create(backfill, "r1")
    with pytest.raises(RecoveryRefused, match="runs in another process"):
        await world.store.claim(backfill.id, "r2")
    with pytest.raises(RecoveryRefused, match="Another process continues"):
        await world.run(backfill, runner="r3", is_new=False)


async def test_cancelled_backfill_is_not_continued(world: World) -> None:
    world.hands.advance(30 * 3600)
    backfill = world.new_backfill()
    await world.store.create(backfill, "r1")
    await world.store.request(backfill.id, BackfillState.CANCELLED, "wrong portal")
    with pytest.raises(RecoveryRefused, match="is cancelled"):
        await world.store.claim(backfill.id, "r1")


class TestIndexLag:
    """HubSpot's search shows changes late."""

    @pytest.fixture
    def account(self) -> PortalConfig:
        return PortalConfig(token=TOKEN, search_lag_s=20.0)

    async def test_change_of_the_last_seconds_is_read_when_the_index_shows_it(self, world: World) -> None:
        world.hands.advance(30 * 3600)
        record = world.contact(1, phone="1")
        until = record.updated_at_ms + 1

        async def wait(_: float) -> None:
            world.hands.advance(25)

        missed = await world.run(world.new_backfill(until=until))
        assert missed.backfill.counts.records == 0  # without a wait for the index
        result = await world.run(world.new_backfill(until=until), sleep=wait, index_lag_s=30.0)
        assert result.backfill.counts.admitted == 2


async def test_records_that_changed_during_the_walk_are_read_after_the_index_shows_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.hands.advance(10 * 3600)
    records = [world.contact(number, phone="1") for number in range(201)]
    until = records[-1].updated_at_ms + 1
    world.hands.advance(20 * 3600)
    backfill = world.new_backfill(until=until)
    search, waits = CRMReader.search, list[float]()

    async def search_and_change(reader: CRMReader, query: Query) -> SearchPage:
        page = await search(reader, query)
        if not query.after_id and query.window.until is not None:
            world.change(records[-1], phone="2")
        return page

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(CRMReader, "search", search_and_change)
    result = await world.run(backfill, sleep=wait, index_lag_s=30.0)
    assert [round(seconds) for seconds in waits] == [30]
    assert result.backfill.counts.events == 402
