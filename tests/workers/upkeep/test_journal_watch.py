"""workers.upkeep.journal_watch: alerts by the age of the journal's cursor."""

import pytest
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.redis.keys import ALERTS_ACTIVE, JOURNAL_CURSOR
from workers.upkeep.journal_watch import watch_journal

HOUR_MS = 3_600_000


async def active(redis: Redis) -> set[str]:
    return {name.decode() for name in await redis.hkeys(ALERTS_ACTIVE)}  # type: ignore[misc]  # redis-py types one class for sync and async


@pytest.mark.parametrize(
    ("hours", "expected"),
    [(0, set()), (23, set()), (25, {"journal_behind"}), (61, {"journal_behind", "journal_expiring"})],
)
async def test_alerts_begin_at_a_day_and_at_two_and_a_half(redis: Redis, hours: int, expected: set[str]) -> None:
    await redis.hset(JOURNAL_CURSOR, mapping={"offset": "a", "read_until": clock.now_ms() - hours * HOUR_MS})
    await watch_journal(redis, AlertEpisodes(redis))
    assert await active(redis) == expected


async def test_alerts_end_when_the_reader_has_caught_up(redis: Redis) -> None:
    await redis.hset(JOURNAL_CURSOR, "read_until", clock.now_ms() - 61 * HOUR_MS)  # type: ignore[misc]  # as above
    await watch_journal(redis, AlertEpisodes(redis))
    await redis.hset(JOURNAL_CURSOR, "read_until", clock.now_ms())  # type: ignore[misc]  # as above
    await watch_journal(redis, AlertEpisodes(redis))
    assert await active(redis) == set()


async def test_journal_that_is_not_read_raises_no_alert(redis: Redis) -> None:
    await watch_journal(redis, AlertEpisodes(redis))
    assert await active(redis) == set()


async def test_unreadable_cursor_raises_no_error(redis: Redis) -> None:
    await redis.hset(JOURNAL_CURSOR, mapping={"offset": b"\xff", "read_until": "soon", "lost_since": "-5"})
    await watch_journal(redis, AlertEpisodes(redis))
    assert await active(redis) == set()
