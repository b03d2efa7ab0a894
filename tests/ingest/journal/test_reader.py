"""ingest.journal: every event of the journal is admitted once, whatever HubSpot answers."""

import asyncio

import pytest
from redis.asyncio import Redis

from ingest.journal.reader import backoff_s
from spokes.audit.records import Action, Outcome
from spokes.core import clock
from spokes.core.events import Event
from spokes.core.redis.keys import GAP_REPORTS, JOURNAL_CURSOR, JOURNAL_READER
from spokes.core.settings import Settings
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.reports import decode
from spokes.intake.arrivals import DAY_MS, read_arrivals
from spokes.intake.backpressure import PressureLevel
from spokes.intake.event_source import EventSource
from spokes.intake.journal.cursor import KEPT_MS, load_cursor
from spokes.portals.lifecycles import noted_lifecycles, read_lifecycle
from spokes.queue.quarantine import Quarantine
from spokes.simulator.api.faults import Fault, FaultBody
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from tests.ingest.journal.conftest import REGISTRATIONS, SteppedReader
from tests.intake.test_admission import queued
from tests.support.events import recorded

ACTIVE_ALERTS = "spokes:alerts"


def create(sim: Simulator, *numbers: int) -> None:
    for number in numbers:
        sim.crm.create(sim.crm.types.resolve("contacts"), {"email": f"a{number}@mail.example"}, USER)


async def admitted(redis: Redis) -> list[Event]:
    return [entry.event for delivery in await queued(redis) for entry in delivery.entries]


async def creations(redis: Redis) -> int:
    return sum(event.kind == "creation" for event in await admitted(redis))


async def gaps(redis: Redis) -> list[object]:
    return [decode(payload) for payload in await redis.lrange(GAP_REPORTS, 0, -1)]  # type: ignore[misc]  # redis-py types one class for sync and async


async def alerts(redis: Redis) -> set[str]:
    return {name.decode() for name in await redis.hkeys(ACTIVE_ALERTS)}  # type: ignore[misc]  # as above


async def test_all_pages_are_read_in_order_and_once(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    create(sim, *range(25))
    await reader.read_all()
    assert await creations(redis) == 25
    newest = sim.journal.store.pages()[-1].offset
    assert (await load_cursor(redis)).offset == newest
    create(sim, 99)
    await reader.read_all()
    assert await creations(redis) == 26


async def test_page_from_the_future_covers_nothing_beyond_now(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, 1)
    await reader.read_all()
    create(sim, 2)
    sim.journal.store.pages()[-1].published_at_ms = 4_102_444_800_000  # the year 2100
    assert not await reader.step()
    assert (await load_cursor(redis)).read_until <= clock.now_ms()


async def test_cursor_of_a_clock_that_was_ahead_covers_nothing_beyond_now(redis: Redis, reader: SteppedReader) -> None:
    await redis.hset(JOURNAL_CURSOR, "read_until", 4_102_444_800_000)  # type: ignore[misc]  # redis-py types one class for sync and async
    await reader.read_all()
    assert (await load_cursor(redis)).read_until <= clock.now_ms()


async def test_events_know_where_they_come_from(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    create(sim, 1)
    await reader.read_all()
    assert [event.intake for event in await admitted(redis)] == ["journal"]
    (head,) = [record for record in await recorded(redis) if record.action is Action.DELIVERY_RECEIVED]
    assert (head.detail["intake"], head.detail["origin"]) == ("journal", sim.journal.store.pages()[0].offset)


async def test_arrival_of_each_event_type_is_noted(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    before = clock.now_ms()
    create(sim, 1)
    await reader.read_all()
    await reader.pages.arrivals.flush(redis, clock.now_ms())
    stored = await read_arrivals(redis, [before // DAY_MS, clock.now_ms() // DAY_MS], recent_days=1)
    assert before <= stored.at["contact.creation journal"][0] <= clock.now_ms()


async def test_only_registered_properties_of_an_entry_are_admitted(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, 1)
    (record,) = sim.crm.all_records()
    sim.crm.update(record, {"phone": "1", "firstname": "Ada", "lastname": "L"}, USER)
    await reader.read_all()
    changes = [event.property_name for event in await admitted(redis) if event.kind == "propertyChange"]
    assert changes == ["phone"]


@pytest.mark.parametrize("is_pushed_first", [True, False])
async def test_pushed_and_journaled_change_is_one_event_in_either_order(
    is_pushed_first: bool, sim: Simulator, redis: Redis, reader: SteppedReader, journal_settings: Settings
) -> None:
    create(sim, 1)
    push = EventSource.from_settings("push", redis, journal_settings, REGISTRATIONS)
    (entry,) = sim.journal.store._collected
    pushed = {
        "eventId": 5, "subscriptionId": 6, "portalId": sim.portal.config.portal_id, "appId": 7, "attemptNumber": 0,
        "occurredAt": next(sim.crm.all_records()).created_at_ms, "subscriptionType": "contact.creation",
        "objectId": entry["objectId"], "changeFlag": "CREATED", "changeSource": "CRM_UI",
    }  # fmt: skip
    if is_pushed_first:
        await push.admit([pushed])
    await reader.read_all()
    await push.admit([pushed])
    await push.close()
    assert await creations(redis) == 1


async def test_nothing_new_moves_the_time_and_not_the_offset(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, 1)
    await reader.read_all()
    before = await load_cursor(redis)
    assert await reader.step() > 0
    after = await load_cursor(redis)
    assert (after.offset, after.read_until >= before.read_until) == (before.offset, True)
    assert after.age_ms(clock.now_ms()) < 60_000


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429, 301])
async def test_failed_read_is_repeated_later(status: int, sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    create(sim, 1)
    sim.faults.add(Fault(path="/webhooks-journal/*", status=status, times=2))
    assert (await reader.step() > 0, await reader.step() > 0) == (True, True)
    await reader.read_all()
    assert await creations(redis) == 1


async def test_wait_that_hubspot_asks_for_wins(sim: Simulator, reader: SteppedReader) -> None:
    sim.faults.add(Fault(path="/webhooks-journal/*", status=429, retry_after="37", times=1))
    assert await reader.step() == 37


def test_waits_grow_up_to_a_minute() -> None:
    assert [backoff_s(failures, 0.0, 1.0) for failures in (1, 2, 3, 50)] == [0.5, 1.0, 2.0, 60.0]


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_file_that_cannot_be_fetched_is_asked_for_again(
    status: int, sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, 1)
    sim.faults.add(Fault(path="/journal-files/*", status=status, times=1))
    assert await reader.step() > 0
    await reader.read_all()
    assert await creations(redis) == 1


async def test_broken_connection_within_a_page_loses_nothing(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(30))
    sim.faults.add(Fault(path="/journal-files/*", reset=True, every=2, times=5))
    for _ in range(12):
        await reader.step()
    assert await creations(redis) == 30


async def test_expired_token_is_replaced(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    create(sim, 1)
    await reader.step()
    sim.journal.expire_tokens()
    create(sim, 2)
    await reader.read_all()
    assert await creations(redis) == 2


async def test_refused_app_is_alerted_until_it_is_accepted(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    create(sim, 1)
    sim.installs.refuses_client = True
    assert await reader.step() >= 60
    assert "journal_refused" in await alerts(redis)
    sim.installs.refuses_client = False
    await reader.read_all()
    assert await creations(redis) == 1
    assert "journal_refused" not in await alerts(redis)


async def test_missing_scope_is_alerted(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    sim.faults.add(Fault(path="/webhooks-journal/*", status=403))
    await reader.step()
    assert "journal_refused" in await alerts(redis)
    assert (await load_cursor(redis)).offset == ""


async def test_secret_that_is_being_rotated_out_works(sim: Simulator, redis: Redis, journal_settings: Settings) -> None:
    create(sim, 1)
    secrets = ("a-new-client-secret-not-yet-in-use", sim.config.client_secret)
    changed = Settings.from_env(
        {
            "HUBSPOT_CLIENT_SECRET": ",".join(secrets), "HUBSPOT_API_URL": sim.url, "DEDUPE_HOURS": "96",
            "HUBSPOT_CLIENT_ID": journal_settings.hubspot_client_id, "AUDIT_KEY": "a" * 40,
            "DATA_DIR": str(journal_settings.data_dir), "SECRETS_KEY": "s" * 32,
        }
    )  # fmt: skip
    stepped = SteppedReader(changed, redis)
    await stepped.read_all()
    await stepped.close()
    assert await creations(redis) == 1


@pytest.mark.parametrize("status", [404, 400, 410, 204])
async def test_answer_that_nothing_is_behind_the_newest_offset_restarts_nothing(
    status: int, sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, 1)
    await reader.read_all()
    sim.faults.add(Fault(path="/webhooks-journal/*/next", status=status, body=FaultBody.EMPTY))
    before = sim.journal.file_reads
    for _ in range(3):
        await reader.step()
    assert (sim.journal.file_reads, (await load_cursor(redis)).lost_since) == (before, 0)


@pytest.mark.parametrize("status", [404, 400, 410, 204])
async def test_offset_that_has_aged_out_restarts_at_the_earliest_page_and_reports_a_gap(
    status: int, sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, 1)
    await reader.step()
    read_until = (await load_cursor(redis)).read_until
    create(sim, *range(2, 14))
    sim.journal.store.pages()
    sim.journal.store.forget(sim.journal.store.pages()[1].offset)
    create(sim, 20)
    path = "/webhooks-journal/*/next"
    fault = sim.faults.add(Fault(path=path, status=status, body=FaultBody.EMPTY))
    await reader.step()
    sim.faults.remove(fault)
    await reader.read_all()
    (gap,) = await gaps(redis)
    assert isinstance(gap, MissedInterval)
    assert (gap.cause, gap.since) == (GapCause.CURSOR_TOO_OLD, read_until)
    assert b'"journal_restarted"' in b"".join(await redis.lrange("spokes:alerts:outbox", 0, -1))  # type: ignore[misc]  # redis-py types one class for sync and async
    assert (await load_cursor(redis)).offset == sim.journal.store.pages()[-1].offset


def forget_one_offset(sim: Simulator, at: int) -> str:
    """Make HubSpot answer 404 for what follows one page, which it keeps on listing; return the page's offset."""
    offset = sim.journal.store.pages()[at].offset
    sim.faults.add(Fault(path=f"/webhooks-journal/*/offset/{offset}/next", status=404, body=FaultBody.EMPTY))
    return offset


async def test_listed_page_whose_offset_is_unknown_is_followed_by_the_next_listed_one(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(45))
    for at in (1, 2):
        forget_one_offset(sim, at)
    await reader.read_all()
    assert await creations(redis) == 45
    assert (await load_cursor(redis)).offset == sim.journal.store.pages()[-1].offset
    assert b'"journal_restarted"' not in b"".join(await redis.lrange("spokes:alerts:outbox", 0, -1))  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_offset_that_stays_unknown_is_skipped_after_two_restarts_and_is_a_gap(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(15))
    await reader.read_all()
    create(sim, *range(15, 45))
    forget_one_offset(sim, 2)
    sim.faults.add(Fault(path="/webhooks-journal/*/batch/*", status=404, body=FaultBody.EMPTY))
    await reader.read_all()
    (gap,) = await gaps(redis)
    assert isinstance(gap, MissedInterval)
    assert gap.cause is GapCause.CURSOR_TOO_OLD
    cursor = await load_cursor(redis)
    assert (cursor.offset, cursor.restarts) == (sim.journal.store.pages()[-1].offset, 0)


async def test_journal_that_deleted_everything_while_nobody_read_is_a_gap(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, 1)
    await reader.read_all()
    old = clock.now_ms() - KEPT_MS - 1000
    await redis.hset(JOURNAL_CURSOR, "read_until", old)  # type: ignore[misc]  # redis-py types one class for sync and async
    sim.journal.store.forget()
    await reader.read_all()
    assert [(gap.cause, gap.since) for gap in await gaps(redis) if isinstance(gap, MissedInterval)] == [
        (GapCause.CURSOR_TOO_OLD, old)
    ]


async def test_lost_cursor_means_that_the_journal_is_read_again(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(15))
    await reader.read_all()
    await redis.delete(JOURNAL_CURSOR)
    await reader.read_all()
    assert await creations(redis) == 15
    assert sum(record.outcome is Outcome.DUPLICATE for record in await recorded(redis)) > 0


async def test_page_that_names_itself_as_its_successor_is_nothing_new(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, 1)
    await reader.read_all()
    reads = sim.journal.file_reads
    sim.journal.store._by_offset[sim.journal.store.pages()[0].offset].number = -1
    await reader.step()
    await reader.step()
    assert sim.journal.file_reads == reads


async def test_unknown_entries_are_kept_and_the_others_admitted(
    sim: Simulator, redis: Redis, reader: SteppedReader, journal_settings: Settings
) -> None:
    create(sim, 1)
    sim.journal.store.add({"type": "listMembership", "portalId": sim.portal.config.portal_id, "listId": 5})
    create(sim, 2)
    await reader.read_all()
    quarantine = Quarantine.from_settings(redis, journal_settings)
    kept = [content async for content in quarantine.list(sim.portal.config.portal_id)]
    assert [content.reason for content in kept] == ["unrecognised_entry"]
    assert b"listMembership" in quarantine.open(kept[0])
    assert await creations(redis) == 2


async def test_page_that_is_none_is_kept_after_three_tries_and_the_reader_goes_on(
    sim: Simulator, redis: Redis, reader: SteppedReader, journal_settings: Settings
) -> None:
    create(sim, *range(12))
    sim.faults.add(Fault(path="/journal-files/*", status=200, body=FaultBody.HTML, times=4))
    waits = [await reader.step() for _ in range(3)]
    assert [wait > 0 for wait in waits] == [True, True, False]
    await reader.read_all()
    quarantine = Quarantine.from_settings(redis, journal_settings)
    (portal,) = await quarantine.portals()
    assert [content.reason async for content in quarantine.list(portal)] == ["unreadable_page"]
    assert await creations(redis) == 2


async def test_installs_and_uninstalls_wait_for_a_worker(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    sim.add_portal(77)
    sim.installs.install(77, frozenset({"oauth"}))
    sim.installs.uninstall(77)
    await reader.read_all()
    noted = [read_lifecycle(payload) for payload in await noted_lifecycles(redis).oldest()]
    assert [(each.portal_id, each.is_install) for each in noted if each] == [(77, True), (77, False)]


async def test_reader_without_the_lease_moves_nothing(
    sim: Simulator, redis: Redis, reader: SteppedReader, second_reader: SteppedReader
) -> None:
    create(sim, 1)
    await reader.reader.renew_lease()
    await second_reader.reader.step()
    assert (await load_cursor(redis)).offset == ""
    await reader.read_all()
    assert await creations(redis) == 1


async def test_two_readers_that_both_believe_to_lead_admit_each_event_once(
    sim: Simulator, redis: Redis, reader: SteppedReader, second_reader: SteppedReader
) -> None:
    create(sim, *range(40))
    for _ in range(12):
        await reader.step()
        await redis.delete(JOURNAL_READER)
        await second_reader.step()
        await redis.delete(JOURNAL_READER)
    assert await creations(redis) == 40


async def test_full_queue_holds_the_reader_back(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    create(sim, 1)
    reader.backpressure.level = PressureLevel.NO_IMPORTS
    step = asyncio.create_task(reader.step())
    await asyncio.sleep(0.3)
    assert (step.done(), await creations(redis)) == (False, 0)
    reader.backpressure.level = PressureLevel.ALL
    await step
    assert await creations(redis) == 1


async def test_redis_that_refuses_moves_nothing_and_the_page_is_admitted_later(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(5))
    await reader.reader.renew_lease()
    await redis.set("spokes:queue", "of another type")
    assert await reader.step() > 0
    assert (await load_cursor(redis)).offset == ""
    await redis.delete("spokes:queue")
    await reader.read_all()
    assert await creations(redis) == 5


async def test_no_address_of_a_file_is_logged(
    sim: Simulator, reader: SteppedReader, capsys: pytest.CaptureFixture[str]
) -> None:
    create(sim, 1)
    sim.faults.add(Fault(path="/journal-files/*", status=500))
    await reader.step()
    output = capsys.readouterr()
    assert "journal_read_failed" in output.out + output.err
    assert "journal-files" not in output.out + output.err


def lose_file(sim: Simulator, at: int) -> None:
    """Make HubSpot name a page of which it has no file."""
    sim.journal.store.lost_files.add(sim.journal.store.pages()[at].offset)


async def test_page_without_a_file_is_skipped_after_ten_tries_as_a_gap_and_an_alert(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(10))
    await reader.read_all()
    read_until = (await load_cursor(redis)).read_until
    create(sim, *range(10, 40))
    lose_file(sim, 2)
    while not (await gaps(redis)):
        await reader.step()
    await reader.read_all()
    (gap,) = await gaps(redis)
    assert isinstance(gap, MissedInterval)
    assert gap.cause is GapCause.CURSOR_TOO_OLD
    assert gap.since < read_until < gap.until
    assert sum(wait > 2.0 for wait in reader.waits) >= 6
    assert await creations(redis) == 30
    cursor = await load_cursor(redis)
    assert (cursor.offset, cursor.lost_since) == (sim.journal.store.pages()[-1].offset, 0)
    assert b'"journal_page_lost"' in b"".join(await redis.lrange("spokes:alerts:outbox", 0, -1))  # type: ignore[misc]  # redis-py types one class for sync and async


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="/journal-files/*", status=403, body=FaultBody.EMPTY),
        Fault(path="/webhooks-journal/*", status=200, body=FaultBody.BAD_GZIP),
    ],
    ids=["no file can be fetched", "no place can be read"],
)
async def test_no_page_is_skipped_while_all_are_unreadable(
    sim: Simulator, redis: Redis, reader: SteppedReader, fault: Fault
) -> None:
    create(sim, *range(30))
    number = sim.faults.add(fault)
    for _ in range(15):
        await reader.step()
    assert (await load_cursor(redis)).offset == ""
    sim.faults.remove(number)
    await reader.read_all()
    assert (await creations(redis), await gaps(redis)) == (30, [])


async def test_newest_page_without_a_file_is_waited_for(sim: Simulator, redis: Redis, reader: SteppedReader) -> None:
    create(sim, *range(10))
    lose_file(sim, 0)
    for _ in range(12):
        await reader.step()
    assert (await load_cursor(redis)).offset == ""
    create(sim, *range(10, 20))
    while await creations(redis) < 10:
        await reader.step()
    assert len(await gaps(redis)) == 1


UNREADABLE = (FaultBody.TRUNCATED_JSON, FaultBody.HTML, FaultBody.NON_UTF8, FaultBody.BAD_GZIP)


@pytest.mark.parametrize("body", UNREADABLE)
async def test_page_whose_place_cannot_be_read_is_found_in_the_list_of_pages_after_ten_tries(
    body: FaultBody, sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(10))
    await reader.read_all()
    read_until = (await load_cursor(redis)).read_until
    create(sim, *range(10, 40))
    sim.faults.add(Fault(path="/webhooks-journal/*/next", status=200, body=body, times=10))
    for _ in range(10):
        await reader.step()
    assert sum(wait > 2.0 for wait in reader.waits) >= 6
    await reader.read_all()
    (gap,) = await gaps(redis)  # nothing says that the first page of the list is the one that is next
    assert isinstance(gap, MissedInterval)
    assert gap.since < read_until < gap.until
    assert await creations(redis) == 40
    assert b'"journal_page_lost"' in b"".join(await redis.lrange("spokes:alerts:outbox", 0, -1))  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_reader_goes_on_at_the_newest_page_if_no_list_says_where_the_next_one_is(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(40))
    for path in ("/webhooks-journal/*/earliest", "/webhooks-journal/*/batch/*"):
        sim.faults.add(Fault(path=path, status=200, body=FaultBody.HTML))
    while not await gaps(redis):
        await reader.step()
    await reader.read_all()
    assert await creations(redis) == 10
    assert (await load_cursor(redis)).offset == sim.journal.store.pages()[-1].offset


async def test_unreadable_place_of_the_newest_page_skips_nothing_while_there_is_nothing_new(
    sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(10))
    await reader.read_all()
    fault = sim.faults.add(Fault(path="/webhooks-journal/*/latest", status=200, body=FaultBody.HTML))
    for _ in range(40):
        await reader.step()
    create(sim, *range(10, 30))
    sim.faults.remove(fault)
    await reader.read_all()
    assert (await creations(redis), await gaps(redis)) == (30, [])


async def test_page_without_a_readable_address_is_skipped_alone(
    sim: Simulator, redis: Redis, reader: SteppedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(sim, *range(40))
    second, named = sim.journal.store.pages()[1].offset, sim.journal._location
    monkeypatch.setattr(
        sim.journal, "_location",
        lambda page, request: {**named(page, request), **({"url": "ftp://x"} if page.offset == second else {})},
    )  # fmt: skip
    while not await gaps(redis):
        await reader.step()
    await reader.read_all()
    assert await creations(redis) == 30
    assert (await load_cursor(redis)).offset == sim.journal.store.pages()[-1].offset


@pytest.mark.parametrize(("status", "body", "tries"), [(200, FaultBody.BAD_GZIP, 10), (500, FaultBody.HUBSPOT, 30)])
async def test_page_whose_file_stays_unreadable_is_skipped_later_than_one_without_a_file(
    status: int, body: FaultBody, tries: int, sim: Simulator, redis: Redis, reader: SteppedReader
) -> None:
    create(sim, *range(30))
    sim.faults.add(Fault(path="/journal-files/*", status=status, body=body, times=tries))
    for _ in range(tries - 1):
        await reader.step()
    assert (await load_cursor(redis)).offset == ""
    await reader.read_all()
    assert await creations(redis) == 20
    assert len(await gaps(redis)) == 1
