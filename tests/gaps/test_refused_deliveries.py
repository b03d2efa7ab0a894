"""spokes.gaps.refused_deliveries: what was refused is reported once, with the events where they are known."""

import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.redis.keys import REFUSED_EVENTS, REFUSED_SPANS
from spokes.gaps import refused_deliveries
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.refused_deliveries import (
    DELIVERY_MARGIN_MS,
    RefusedDeliveries,
    RefusedEvent,
    RefusedSpan,
    episodes,
    refused_spans,
)
from spokes.gaps.reports import decode, gap_reports
from tests.gaps.test_heartbeat import START, Hands

FIRST, SECOND = RefusedEvent(7, "0" * 20, START - 500), RefusedEvent(8, "1" * 20, START - 400)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(clock, "now_ms", hands)
    return hands


async def test_refused_deliveries_are_reported_once_with_their_events(redis: Redis, hands: Hands) -> None:
    refused = RefusedDeliveries(redis)
    refused.identify([FIRST])
    refused.refuse()
    hands.now += 2_000
    refused.identify([FIRST, SECOND])
    refused.refuse()
    await refused.report()
    await refused.report()
    since, until = START - DELIVERY_MARGIN_MS, START + 2_001
    assert [decode(payload) for payload in await gap_reports(redis).oldest()] == [
        MissedInterval(since=since, until=until, cause=GapCause.DELIVERIES_REFUSED)
    ]
    assert await refused_spans(redis) == [RefusedSpan(since, until, is_identified=True)]
    stored = [RefusedEvent.from_field(*field) for field in (await redis.hgetall(REFUSED_EVENTS)).items()]
    assert sorted(filter(None, stored)) == [
        FIRST._replace(refused_at=START), SECOND._replace(refused_at=START + 2_000)
    ]  # fmt: skip


async def test_delivery_that_was_refused_unread_leaves_its_span_unidentified(redis: Redis, hands: Hands) -> None:
    refused = RefusedDeliveries(redis)
    refused.identify([FIRST])
    refused.refuse()
    hands.now += 1
    refused.refuse()
    await refused.report()
    assert [span.is_identified for span in await refused_spans(redis)] == [False]
    hands.now += 1
    refused.identify([SECOND])
    refused.refuse()
    await refused.report()
    assert [span.is_identified for span in await refused_spans(redis)] == [False, True]


@pytest.mark.parametrize("limit", ["_MAX_NOTED", "_MAX_KEPT"])
async def test_more_events_than_are_kept_leave_the_span_unidentified(
    redis: Redis, hands: Hands, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused_deliveries, limit, 1)
    refused = RefusedDeliveries(redis)
    refused.identify([FIRST, SECOND])
    refused.refuse()
    await refused.report()
    assert [span.is_identified for span in await refused_spans(redis)] == [False]
    assert await redis.hlen(REFUSED_EVENTS) == 0


def test_spans_that_touch_are_one_episode() -> None:
    spans = [RefusedSpan(50, 60, is_identified=True), RefusedSpan(0, 30, is_identified=True)]
    spans += [RefusedSpan(10, 20, is_identified=False), RefusedSpan(60, 70, is_identified=True)]
    first, second = episodes(spans)
    assert (first.since, first.until, first.is_proven([])) == (0, 30, False)
    assert (second.since, second.until) == (50, 70)
    assert [second.is_proven([at]) for at in (49, 50, 69, 70)] == [True, False, False, True]


async def test_unreadable_members_and_fields_are_skipped(redis: Redis) -> None:
    await redis.zadd(REFUSED_SPANS, {"x": 1, "1:2": 2, "1:2:1": 3})
    assert await refused_spans(redis) == [RefusedSpan(1, 2, is_identified=False), RefusedSpan(1, 2, is_identified=True)]
    assert RefusedEvent.from_field(b"no key", b"1:2:3") is None
    assert RefusedEvent.from_field(b"0" * 20, b"1:2") is None
