"""What operators ask, on a real Valkey and both kinds of store."""

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.archiver import Archiver
from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.sql.queries import Filters
from spokes.audit.stream import append
from spokes.console.queries.alerts import active_alerts
from spokes.console.queries.budgets import portal_budgets
from spokes.console.queries.dead_letters import dead_letter_causes
from spokes.console.queries.deliveries import find_delivery, search_deliveries
from spokes.console.queries.descriptions import describe
from spokes.console.queries.events import find_event as one_event
from spokes.console.queries.objects import Reference
from spokes.console.queries.privacy_requests import list_privacy_requests
from spokes.console.queries.queue import queue_status
from spokes.console.queries.records import search_records
from spokes.console.queries.timeline import Timeline, load_timeline
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.errors import AmbiguousReference
from spokes.core.events import Event
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.privacy.requests import ErasureRequest, Law, add_request
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from spokes.queue.portal_pauses import OPERATOR, PortalPauses
from tests.support.deployment import KEY
from tests.support.events import event, record, store_dead_letters
from workers.delivery.merge_map import MergeMap

PORTAL, OTHER = 50112233, 50112244
ME = str(318845120001)
HASH_KEY = object_hash_key(KEY)


async def tell(redis: Redis, *records: AuditRecord) -> None:
    pipeline = redis.pipeline()
    for told in records:
        append(pipeline, told)
    await pipeline.execute()


@pytest.fixture
async def store(redis: Redis, engine: AsyncEngine) -> AsyncEngine:
    """An archive with its tables, and nothing in it."""
    await Archiver(redis, engine, KEY).run_once()
    return engine


async def archive(redis: Redis, engine: AsyncEngine) -> None:
    await Archiver(redis, engine, KEY).drain()


async def enqueue(redis: Redis, *elements: dict[str, object], portal: int = PORTAL, due_in_s: float = 0.0) -> str:
    now = clock.now_ms()
    entries = tuple(Entry(f"{at:020x}", 0, element) for at, element in enumerate(elements, start=1))
    waits = Delivery(f"{portal}-{now:x}-{due_in_s:.0f}", portal, now, entries)
    await redis.set(JOB_KEY_PREFIX + waits.id, job_payload(waits, now))
    await redis.zadd(JOB_QUEUE, {waits.id: now + round(due_in_s * 1000)})
    return waits.id


async def died(redis: Redis, number: int, reason: str = "object_not_found", portal: int = PORTAL) -> DeadLetter:
    element = event(number, portalId=portal)
    letter = DeadLetter(portal, "d", Entry(f"{number:032x}", 3, element), reason, "contacts.on_creation", 1000 + number)
    await store_dead_letters(redis, letter)
    return letter


def ask(redis: Redis, engine: AsyncEngine, text: str = ME, portals: frozenset[int] | None = None) -> object:
    return load_timeline(redis, engine, portals, Reference.from_text(text), hash_key=HASH_KEY)


class TestReference:
    @pytest.mark.parametrize(
        ("text", "reference"),
        [
            ("318845120771", Reference("318845120771")),
            (" contact 51 ", Reference("51", "contact")),
            ("0-2/51", Reference("51", "company")),
            (
                "https://app.hubspot.com/contacts/50112233/record/0-1/318845120771",
                Reference("318845120771", "contact", 50112233),
            ),
            ("https://app-eu1.hubspot.com/contacts/7/record/2-123/9?x=1", Reference("9", "2-123", 7)),
            ("https://app.hubspot.com/contacts/7/deal/9/", Reference("9", "deal", 7)),
        ],
    )
    def test_reference_is_an_id_or_a_link(self, text: str, reference: Reference) -> None:
        assert Reference.from_text(text) == reference

    @pytest.mark.parametrize(
        "text", ["", "ada@example.com", "<script>", "https://evil.example/contacts/7/deal/9", "9" * 30]
    )
    def test_text_that_is_no_reference_is_refused(self, text: str) -> None:
        with pytest.raises(AmbiguousReference):
            Reference.from_text(text)


class TestTimeline:
    async def test_timeline_goes_from_receipt_to_write(self, redis: Redis, store: AsyncEngine) -> None:
        head = {"received": 2, "admitted": 1, "duplicate": 0, "ignored": {"deal.deletion": 1}, "set_aside": 0}
        write = {"method": "contacts.update", "properties": ["phone"], "ok": True}
        await tell(
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
        found: Timeline = await ask(redis, store)
        assert [describe(told) for told in found.records] == [
            "Gave up: now a dead letter: invalid request (EMAIL_INVALID)",
            "Processed",
            "Wrote to HubSpot: contacts.update (phone)",
            "Failed; will be retried: HubSpot's rate limit was reached (429); next try after 2 s",
            "Received a delivery of 2: 1 admitted, 1 deal.deletion ignored: no handler is registered",
        ]

    async def test_unarchived_record_is_included_once(self, redis: Redis, store: AsyncEngine) -> None:
        await tell(redis, record(1, id="a", at=1))
        await archive(redis, store)
        await tell(redis, record(1, id="a", at=1), record(1, id="b", at=2))
        found: Timeline = await ask(redis, store)
        assert [(told.id, told.seq) for told in found.records] == [("b", None), ("a", 1)]

    @pytest.mark.parametrize("asked", [ME, "52", "53"])
    async def test_merges_are_followed_in_both_directions(self, redis: Redis, store: AsyncEngine, asked: str) -> None:
        """The record was merged into 52, and that into 53."""
        for loser, survivor, key in ((ME, "52", "k1"), ("52", "53", "k2")):
            merge = {"event_key": key, "subscription_type": "contact.merge", "object_id": survivor}
            gone = {"event_key": key, "action": Action.OBJECT_MERGED, "outcome": None, "object_id": loser}
            await tell(redis, record(1, id=key, **merge), record(1, id=f"{key}l", **gone))
        await tell(redis, record(1, id="mine", reason="the loser's"))
        await archive(redis, store)
        found: Timeline = await ask(redis, store, asked)
        assert [thing.ids for thing in found.objects] == [{ME, "52", "53"}]
        assert "mine" in {told.id for told in found.records}

    async def test_unrecorded_merge_is_followed(self, redis: Redis, store: AsyncEngine) -> None:
        merge = event(1, subscriptionType="contact.merge", objectId=52, primaryObjectId=int(ME), newObjectId=52)
        await MergeMap(redis).record([Event({**merge, "mergedObjectIds": [51]})])
        await tell(redis, record(1, id="a"), record(2, id="b", object_id="52"))
        await archive(redis, store)
        found: Timeline = await ask(redis, store)
        assert {told.id for told in found.records} == {"a", "b"}

    async def test_waiting_event_is_included(self, redis: Redis, store: AsyncEngine) -> None:
        job = await enqueue(redis, event(1), event(2), due_in_s=60)
        found: Timeline = await ask(redis, store)
        assert [(told.job.delivery.id, told.job.in_progress) for told in found.pending] == [(job, False)]

    async def test_dead_letter_is_included(self, redis: Redis, store: AsyncEngine) -> None:
        letter = await died(redis, 1)
        await tell(redis, record(1, outcome=Outcome.DEAD))
        await archive(redis, store)
        found: Timeline = await ask(redis, store)
        assert found.letters == (letter,)

    async def test_object_of_another_portal_with_the_same_id_is_not_shown(
        self, redis: Redis, store: AsyncEngine
    ) -> None:
        await tell(redis, record(1, id="a"), record(1, id="b", portal_id=OTHER))
        await died(redis, 1, portal=OTHER)
        await enqueue(redis, event(1, portalId=OTHER), portal=OTHER)
        await tell(redis, record(1, id="c", portal_id=OTHER))
        found: Timeline = await ask(redis, store, portals=frozenset({PORTAL}))
        everything = {told.id for told in found.records}, found.letters, found.pending, len(found.objects)
        await archive(redis, store)
        archived: Timeline = await ask(redis, store, portals=frozenset({PORTAL}))
        assert (everything, {told.id for told in archived.records}) == (({"a"}, (), (), 1), {"a"})

    async def test_erased_object_shows_only_its_erasure(self, redis: Redis, store: AsyncEngine) -> None:
        await tell(redis, record(1, id="a", at=1))
        await archive(redis, store)
        await tell(redis, record(1, id="e", at=2, action=Action.PRIVACY_ERASED, outcome=None))
        await archive(redis, store)
        for text in (f"https://app.hubspot.com/contacts/{PORTAL}/record/0-1/{ME}", f"contact {ME}", ME):
            found: Timeline = await ask(redis, store, text)
            assert (found.records, found.erased_at) == ((), 2), text

    async def test_erasure_has_its_own_time_and_is_shown_to_its_own_portal(
        self, redis: Redis, store: AsyncEngine
    ) -> None:
        """It is archived in one batch with what happened later to somebody else's."""
        erased = record(1, id="e", at=2, action=Action.PRIVACY_ERASED, outcome=None)
        await tell(redis, erased, record(2, id="z", at=9, portal_id=OTHER, object_type="deal"))
        await archive(redis, store)
        found = [await ask(redis, store, ME, portals) for portals in (None, frozenset({PORTAL}), frozenset({OTHER}))]
        assert [told.erased_at for told in found] == [2, 2, None]

    async def test_older_records_are_on_the_following_pages(self, redis: Redis, store: AsyncEngine) -> None:
        await tell(redis, *(record(1, id=str(at), at=at) for at in range(1, 6)))
        await archive(redis, store)
        await tell(redis, record(1, id="6", at=6))
        pages, after = [], None
        while True:
            found = await load_timeline(redis, store, None, Reference(ME), hash_key=HASH_KEY, limit=2, after=after)
            pages.append([told.at for told in found.records])
            after = found.next
            if after is None:
                break
        assert pages == [[6, 5, 4], [3, 2], [1]]

    @pytest.mark.parametrize("after", ["x", "1", "1.x", "9" * 30 + ".1", "-1.1"])
    async def test_invalid_cursor_is_refused(self, redis: Redis, store: AsyncEngine, after: str) -> None:
        await tell(redis, record(1))
        with pytest.raises(ValueError, match=after):
            await load_timeline(redis, store, None, Reference(ME), hash_key=HASH_KEY, after=after)

    async def test_all_deliveries_and_writes_are_included(self, redis: Redis, store: AsyncEngine) -> None:
        """A hundred deliveries, each with its head, an event, and a write to another object."""
        for at in range(100):
            event_of = {"delivery_id": f"d{at}", "event_key": f"k{at}"}
            write = record(2, id=f"w{at}", action=Action.CRM_WRITE, outcome=None, **event_of)
            head = AuditRecord(action=Action.DELIVERY_RECEIVED, portal_id=PORTAL, delivery_id=f"d{at}", id=f"h{at}")
            await tell(redis, head, record(1, id=f"e{at}", **event_of), write)
        waits: Timeline = await ask(redis, store)
        await archive(redis, store)
        stored: Timeline = await ask(redis, store)
        assert [(len(told.records), told.truncated) for told in (waits, stored)] == [(300, False)] * 2

    async def test_timeline_is_truncated_when_an_id_matches_too_many_objects(
        self, redis: Redis, store: AsyncEngine
    ) -> None:
        await tell(redis, *(record(1, id=str(at), portal_id=at) for at in range(1, 22)))
        await archive(redis, store)
        found: Timeline = await ask(redis, store)
        assert (len(found.objects), found.truncated) == (20, True)

    async def test_unknown_object_has_an_empty_timeline(self, redis: Redis, store: AsyncEngine) -> None:
        found: Timeline = await ask(redis, store)
        assert found == Timeline(reference=Reference(ME))


async def test_event_is_found_with_its_attempts_and_waiting_delivery(redis: Redis, store: AsyncEngine) -> None:
    job = await enqueue(redis, event(1), due_in_s=60)
    key = f"{1:020x}"
    await tell(redis, record(1, event_key=key, outcome=Outcome.RETRIED, detail={"moved_to": job, "delay_s": 60}))
    found = await one_event(redis, store, None, key)
    assert found is not None
    assert found.waiting is not None
    assert (found.state, found.waiting.delivery.id, found.is_dead) == ("retried", job, False)


async def test_delivery_counts_the_outcomes_of_its_events(redis: Redis, store: AsyncEngine) -> None:
    head = AuditRecord(action=Action.DELIVERY_RECEIVED, portal_id=PORTAL, delivery_id="d", detail={"received": 3}, at=5)
    outcomes = (Outcome.PROCESSED, Outcome.PROCESSED, Outcome.DUPLICATE)
    await tell(redis, head, *(record(at, delivery_id="d", outcome=o) for at, o in enumerate(outcomes)))
    await archive(redis, store)
    found = await find_delivery(redis, store, None, "d")
    assert found is not None
    assert found.received is not None
    assert (found.received.received, found.outcomes) == (3, {"processed": 2, "duplicate": 1})
    assert await find_delivery(redis, store, frozenset({OTHER}), "d") is None
    assert [told.id for told in (await search_deliveries(store, None)).items] == ["d"]


async def test_pages_of_records_join_without_gap_or_overlap(redis: Redis, store: AsyncEngine) -> None:
    await tell(redis, *(record(at, at=1000 + at // 3) for at in range(8)), record(9, portal_id=OTHER, at=1))
    await archive(redis, store)
    seqs, after = [], None
    while True:
        page = await search_records(store, frozenset({PORTAL}), Filters(), limit=3, after=after)
        seqs += [told.seq for told in page.items]
        after = page.next
        if after is None:
            break
    assert seqs == [8, 7, 6, 5, 4, 3, 2, 1]


class TestFigures:
    """Of what waits, stands and is due."""

    async def test_queue_status_has_backlog_lag_and_pauses(self, redis: Redis) -> None:
        now = clock.now_ms()
        running = await enqueue(redis, event(1, occurredAt=now - 90_000))
        await redis.set(f"arq:in-progress:{running}", "w")
        await enqueue(redis, event(2, occurredAt=now), due_in_s=600)
        await enqueue(redis, event(3, portalId=OTHER), portal=OTHER, due_in_s=900)
        await PortalPauses(redis).pause(PORTAL, OPERATOR)
        every, own = await queue_status(redis, None), await queue_status(redis, frozenset({PORTAL}))
        assert (every.due, every.scheduled, every.in_progress, every.unarchived) == (
            1,
            2,
            1,
            1,
        )  # the record of the pause
        assert (own.due, own.scheduled, own.unarchived, list(own.paused)) == (1, 1, None, [PORTAL])
        assert own.event_lag_s is not None
        assert 90 <= own.event_lag_s < 150

    async def test_empty_queue_has_no_lag(self, redis: Redis) -> None:
        found = await queue_status(redis, None)
        assert (found.backlog, found.event_lag_s, found.oldest_due_s, found.paused) == (0, None, 0.0, {})

    async def test_dead_letters_are_grouped_by_cause(self, redis: Redis) -> None:
        for number, reason in ((1, "no_handler"), (2, "object_not_found"), (3, "object_not_found")):
            await died(redis, number, reason)
        await died(redis, 4, portal=OTHER)
        found = await dead_letter_causes(redis, frozenset({PORTAL}))
        assert [(cause.reason, cause.count, cause.oldest_at, cause.newest_at) for cause in found] == [
            ("object_not_found", 2, 1002, 1003),
            ("no_handler", 1, 1001, 1001),
        ]

    async def test_privacy_request_has_the_days_until_it_is_due(self, store: AsyncEngine) -> None:
        day = 86_400_000
        for portal in (PORTAL, OTHER):
            await add_request(store, ErasureRequest(portal, "h", ("51",), Law.CCPA, "ada", requested_at=0))
        [asked] = await list_privacy_requests(store, frozenset({PORTAL}), now_ms=40 * day)
        [_, late] = await list_privacy_requests(store, None, now_ms=46 * day)
        assert (asked.due_in_days, late.due_in_days) == (5, -1)

    async def test_active_alerts_have_advice(self, redis: Redis) -> None:
        await AlertEpisodes(redis).set_state(Alert.AUDIT_BACKLOG, is_active=True, waiting=7)
        await AlertEpisodes(redis).set_state(Alert.PORTAL_PAUSED, is_active=True, portal_id=PORTAL, subject=PORTAL)
        every, own = await active_alerts(redis, None), await active_alerts(redis, frozenset({PORTAL}))
        assert {(told.name, bool(told.advice)) for told in every} == {("audit_backlog", True), ("portal_paused", True)}
        assert [told.name for told in own] == ["portal_paused"]

    async def test_budget_is_per_portal(self, redis: Redis, environ: dict[str, str]) -> None:
        settings = Settings.from_env({**environ, "PORTAL_IDS": f"{PORTAL},{OTHER}", "HUBSPOT_RATE_LIMIT": "7"})
        [own] = await portal_budgets(settings, redis, frozenset({PORTAL}))
        assert (own.portal_id, own.kinds["calls"].limit, own.kinds["calls"].used) == (PORTAL, 7, 0)

    async def test_operator_action_is_described_with_actor_and_reason(self, redis: Redis, store: AsyncEngine) -> None:
        letter = await died(redis, 1)
        await DeadLetters(redis).replay([letter], actor="ada", reason="token renewed")
        await archive(redis, store)
        page = await search_records(store, None, Filters(actor="ada"))
        assert [describe(told) for told in page.items] == ["Replayed: queued again by ada: token renewed"]
