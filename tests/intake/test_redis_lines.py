"""spokes.intake.redis_lines: each exchange has a deadline of its own, and a line outlives those of its exchanges."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import TimeoutError as TimedOut

from spokes.core.redis.pool import RedisPool
from spokes.intake.redis_lines import RedisLines

TIMEOUT_S = 0.4


@pytest.fixture
async def lines(valkey_url: str) -> AsyncIterator[RedisLines]:
    pool = RedisPool.from_url(valkey_url, max_connections=1, timeout=5.0)
    lines = RedisLines(pool, timeout_s=TIMEOUT_S)
    yield lines
    await lines.close()
    await pool.aclose()


async def test_exchange_has_its_whole_time_after_others_on_its_line(lines: RedisLines) -> None:
    await lines.call(("PING",))
    await asyncio.sleep(TIMEOUT_S / 2)
    started = time.monotonic()
    with pytest.raises((TimeoutError, TimedOut)):
        await lines.call(("BLPOP", "nothing", 0))
    assert time.monotonic() - started > 0.9 * TIMEOUT_S


async def test_line_is_used_again_after_the_deadline_of_its_last_exchange(lines: RedisLines) -> None:
    first = await lines.call(("CLIENT", "ID"))
    await asyncio.sleep(1.5 * TIMEOUT_S)
    assert await lines.call(("CLIENT", "ID")) == first


async def test_every_exchange_of_a_line_can_time_out(lines: RedisLines) -> None:
    for _ in range(2):
        with pytest.raises((TimeoutError, TimedOut)):
            await lines.call(("BLPOP", "nothing", 0))
        assert await lines.call(("PING",)) == [b"PONG"]
