"""spokes.gaps.heartbeat: when no web process ran is reported once."""

import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.redis.keys import GAP_REPORTS, WEB_HEARTBEAT
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.heartbeat import LONGEST_SILENCE_MS, WebHeartbeat
from spokes.gaps.refused_deliveries import DELIVERY_MARGIN_MS
from spokes.gaps.reports import decode, gap_reports

START = 1_795_000_000_000


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(clock, "now_ms", hands)
    return hands


async def reports(redis: Redis) -> list[object]:
    return [decode(payload) for payload in await gap_reports(redis).oldest()]


async def test_first_heartbeat_reports_nothing(redis: Redis, hands: Hands) -> None:
    await WebHeartbeat(redis).beat()
    assert await reports(redis) == []
    assert int(await redis.get(WEB_HEARTBEAT)) == hands.now


async def test_time_without_any_web_process_is_reported_once(redis: Redis, hands: Hands) -> None:
    await WebHeartbeat(redis).beat()
    hands.now += 30 * 3_600_000
    first, second = WebHeartbeat(redis), WebHeartbeat(redis)
    await first.beat()
    await second.beat()
    assert await reports(redis) == [
        MissedInterval(since=START - DELIVERY_MARGIN_MS, until=hands.now, cause=GapCause.NO_WEB_PROCESS)
    ]


async def test_restart_within_a_minute_is_no_gap(redis: Redis, hands: Hands) -> None:
    await WebHeartbeat(redis).beat()
    hands.now += LONGEST_SILENCE_MS
    await WebHeartbeat(redis).beat()
    assert await reports(redis) == []


async def test_process_that_ran_all_the_time_reports_no_gap_when_redis_comes_back(redis: Redis, hands: Hands) -> None:
    heartbeat = WebHeartbeat(redis)
    await heartbeat.beat()
    await redis.set(WEB_HEARTBEAT, "no number")
    for _ in range(10):  # Redis does not answer
        hands.now += 30_000
        heartbeat._last_tick = hands.now
    await redis.set(WEB_HEARTBEAT, START)
    await heartbeat.beat()
    assert await reports(redis) == []


async def test_process_that_was_stopped_reports_the_gap(redis: Redis, hands: Hands) -> None:
    heartbeat = WebHeartbeat(redis)
    await heartbeat.beat()
    hands.now += 3_600_000
    await heartbeat.beat()
    assert await reports(redis) == [
        MissedInterval(since=START - DELIVERY_MARGIN_MS, until=hands.now, cause=GapCause.NO_WEB_PROCESS)
    ]


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"since":1,"until":2,"cause":"unknown"}', b"\xff"])
async def test_unreadable_report_is_none(redis: Redis, payload: bytes) -> None:
    await redis.rpush(GAP_REPORTS, payload)
    assert await reports(redis) == [None]
