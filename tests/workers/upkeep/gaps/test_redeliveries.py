"""workers.upkeep.gaps.redeliveries: HubSpot's next attempts close a gap exactly if they bring every refused event."""

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.events import Event, RawEvent
from spokes.core.masking import derive_key
from spokes.core.redis.keys import REFUSED_EVENTS, REFUSED_SPANS
from spokes.core.settings import Settings
from spokes.gaps.gap import Gap, GapCause, MissedInterval, Proof
from spokes.gaps.ledger import GapLedger
from spokes.gaps.refused_deliveries import RefusedDeliveries, RefusedEvent, RefusedSpan, refused_spans
from spokes.gaps.reports import report_missed
from spokes.intake.event_keys import EventKeys
from spokes.intake.event_source import EventSource
from tests.support.deployment import KEY
from workers.upkeep.gaps.gap_watch import watch_gaps
from workers.upkeep.gaps.redeliveries import prove_redeliveries

PORTAL = 7
KEYS = EventKeys(derive_key(KEY, "event keys"))
DAY_MS = 86_400_000


def creation(number: int) -> RawEvent:
    return {
        "eventId": number, "subscriptionId": 2, "portalId": PORTAL, "appId": 3, "occurredAt": clock.now_ms() - 30_000,
        "subscriptionType": "contact.creation", "attemptNumber": 0, "objectId": number, "changeSource": "CRM",
    }  # fmt: skip


async def refuse(redis: Redis, *raws: RawEvent, unread: int = 0) -> None:
    """Refuse a delivery of each event, and some deliveries that were not read."""
    refused = RefusedDeliveries(redis)
    for raw in raws:
        refused.identify([RefusedEvent(PORTAL, KEYS(Event(raw)), int(raw["occurredAt"]))])
        refused.refuse()
    for _ in range(unread):
        refused.refuse()
    await refused.report()


async def deliver(redis: Redis, settings: Settings, *raws: RawEvent) -> None:
    source = EventSource.from_settings("journal", redis, settings, ["contact.creation"])
    await source.admit([{**raw, "attemptNumber": 1} for raw in raws])
    await source.close()


async def gaps(redis: Redis, settings: Settings, store: AsyncEngine, *, closed: bool = False) -> list[Gap]:
    await prove_redeliveries(redis)
    await watch_gaps(settings, redis, store, AlertEpisodes(redis), ())
    return await GapLedger.from_settings(settings, store).list(include_closed=closed)


async def test_next_attempts_that_bring_every_refused_event_close_the_gap(
    settings: Settings, redis: Redis, store: AsyncEngine
) -> None:
    raws = [creation(number) for number in range(1, 4)]
    await refuse(redis, *raws)
    assert await gaps(redis, settings, store)
    await deliver(redis, settings, *raws[:2])
    assert await gaps(redis, settings, store)
    assert await redis.hlen(REFUSED_EVENTS) == 1
    await deliver(redis, settings, raws[2])
    assert {gap.proof for gap in await gaps(redis, settings, store, closed=True)} == {Proof.REDELIVERY}
    assert (await redis.zcard(REFUSED_SPANS), await redis.hlen(REFUSED_EVENTS)) == (0, 0)


async def test_delivery_that_was_refused_unread_keeps_the_gap_open(
    settings: Settings, redis: Redis, store: AsyncEngine
) -> None:
    raw = creation(1)
    await refuse(redis, raw, unread=1)
    await deliver(redis, settings, raw)
    assert await gaps(redis, settings, store)


async def test_refused_event_of_another_process_keeps_the_gap_open(
    settings: Settings, redis: Redis, store: AsyncEngine
) -> None:
    first, second = creation(1), creation(2)
    await refuse(redis, first)
    await refuse(redis, second)
    await deliver(redis, settings, first)
    assert await gaps(redis, settings, store)
    await deliver(redis, settings, second)
    assert await gaps(redis, settings, store) == []


async def test_gap_with_another_cause_stays_open(settings: Settings, redis: Redis, store: AsyncEngine) -> None:
    raw, now = creation(1), clock.now_ms()
    await report_missed(redis, MissedInterval(since=now - 90_000, until=now, cause=GapCause.NO_WEB_PROCESS))
    await refuse(redis, raw)
    await deliver(redis, settings, raw)
    assert {gap.causes for gap in await gaps(redis, settings, store)} == {
        (GapCause.DELIVERIES_REFUSED, GapCause.NO_WEB_PROCESS)
    }


async def test_events_that_never_came_are_forgotten_without_a_proof(
    settings: Settings, redis: Redis, store: AsyncEngine
) -> None:
    now = clock.now_ms()
    await refuse(redis, creation(1))
    await redis.delete(REFUSED_SPANS)
    event = RefusedEvent(PORTAL, "0" * 20, now - 3 * DAY_MS, now - 3 * DAY_MS)
    span = RefusedSpan(now - 4 * DAY_MS, now - 1, is_identified=True)
    await redis.hset(REFUSED_EVENTS, event.key, event.value)
    await redis.zadd(REFUSED_SPANS, {span.member: span.until})
    assert await gaps(redis, settings, store)
    assert (await redis.hexists(REFUSED_EVENTS, event.key), await refused_spans(redis)) == (True, [span])
    await redis.zadd(REFUSED_SPANS, {span.member: now - 2 * DAY_MS - 1})
    await prove_redeliveries(redis)
    assert (await redis.hexists(REFUSED_EVENTS, event.key), await refused_spans(redis)) == (False, [])
    assert await gaps(redis, settings, store)
