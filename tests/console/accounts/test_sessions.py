"""Console sessions on a real Valkey: idle and absolute limits, and logout."""

import time
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import IDLE_S, MAX_AGE_S, Sessions
from tests.support.console_visitor import SEALS

HOUR_S = 3600


@pytest.fixture
def sessions(redis: Redis) -> Sessions:
    return Sessions(redis, b"k" * 32, SEALS)


async def session_ttl_s(redis: Redis) -> int:
    [name] = [name async for name in redis.scan_iter("spokes:console:session:*")]
    return int(await redis.ttl(name))


async def test_session_ends_after_an_idle_hour(redis: Redis, sessions: Sessions) -> None:
    await sessions.start("ada", [Role.VIEWER], None)
    assert HOUR_S - 60 <= await session_ttl_s(redis) <= IDLE_S == HOUR_S


async def test_use_restarts_the_idle_hour_and_find_without_touch_does_not(redis: Redis, sessions: Sessions) -> None:
    cookie = await sessions.start("ada", [Role.VIEWER], None)
    [name] = [name async for name in redis.scan_iter("spokes:console:session:*")]
    await redis.expire(name, 100)
    await sessions.find(cookie, touch=False)
    assert await session_ttl_s(redis) <= 100
    await sessions.find(cookie)
    assert await session_ttl_s(redis) >= HOUR_S - 60


async def test_expired_session_is_not_found(redis: Redis, sessions: Sessions) -> None:
    cookie = await sessions.start("ada", [Role.VIEWER], None)
    [name] = [name async for name in redis.scan_iter("spokes:console:session:*")]
    await redis.pexpire(name, 1)
    deadline = time.monotonic() + 20
    while await redis.exists(name) and time.monotonic() < deadline:
        pass
    assert await sessions.find(cookie) is None


async def test_session_ends_after_its_maximum_age_despite_use(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = await sessions.start("ada", [Role.VIEWER], None)
    now = time.time()
    monkeypatch.setattr("spokes.console.accounts.sessions.time", SimpleNamespace(time=lambda: now + MAX_AGE_S + 1))
    assert await sessions.find(cookie) is None
    monkeypatch.undo()
    assert await sessions.find(cookie) is None  # deleted, not only expired


async def test_redis_does_not_contain_the_cookie(redis: Redis, sessions: Sessions) -> None:
    cookie = await sessions.start("ada", [Role.VIEWER], None)
    contents = str([(name, await redis.dump(name)) async for name in redis.scan_iter()])
    assert cookie not in contents


@pytest.mark.parametrize("cookie", ["", "x", "\udcff", "a" * 10_000])
async def test_unknown_cookie_is_not_found(sessions: Sessions, cookie: str) -> None:
    assert await sessions.find(cookie) is None


async def test_csrf_token_belongs_to_one_session(sessions: Sessions) -> None:
    first, second = [await sessions.start("ada", [Role.VIEWER], None) for _ in range(2)]
    assert sessions.csrf_token(first) != sessions.csrf_token(second)
    assert Sessions(sessions.redis, b"x" * 32, SEALS).csrf_token(first) != sessions.csrf_token(first)
