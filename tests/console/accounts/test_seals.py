"""A program that writes to Redis gets neither an account, nor a session, nor a login link."""

import orjson
import pytest
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.console.accounts.seals import Seals
from spokes.console.accounts.sessions import Sessions
from spokes.console.accounts.users import Users
from spokes.core.redis.keys import CONSOLE_USERS
from tests.support.console_visitor import SEALS

ADMIN = orjson.dumps({"roles": ["admin"], "portals": None, "phc": ""}).decode()
PASSWORD = "correct horse battery"


@pytest.fixture
def users(redis: Redis) -> Users:
    return Users(redis, SEALS)


@pytest.fixture
def sessions(redis: Redis) -> Sessions:
    return Sessions(redis, b"k" * 32, SEALS)


@pytest.mark.parametrize(
    "forged", [ADMIN, Seals("x" * 32).seal(f"{CONSOLE_USERS}:eve", ADMIN.encode()).decode(), "", "gAAAA"]
)
async def test_account_written_to_redis_cannot_log_in(redis: Redis, users: Users, forged: str) -> None:
    await redis.hset(CONSOLE_USERS, "eve", forged)  # type: ignore[misc]  # redis-py types
    assert (await users.find("eve"), await users.all()) == (None, ())
    link = await users.create_login_link("eve")
    assert await users.redeem_login_link(link) is None


async def test_account_copied_to_another_name_cannot_log_in(redis: Redis, users: Users) -> None:
    await users.put("ada", [Role.ADMIN], None, PASSWORD)
    sealed = await redis.hget(CONSOLE_USERS, "ada")  # type: ignore[misc]  # as above
    await redis.hset(CONSOLE_USERS, "eve", sealed)  # type: ignore[misc]  # as above
    assert await users.verify_password("eve", PASSWORD) is None
    assert await users.verify_password("ada", PASSWORD) is not None


async def test_session_written_to_redis_or_copied_is_not_found(redis: Redis, sessions: Sessions) -> None:
    cookies = [await sessions.start("ada", [role], None) for role in (Role.VIEWER, Role.ADMIN)]
    viewer, admin = [name async for name in redis.scan_iter("spokes:console:session:*")]
    first, second = await redis.get(viewer), await redis.get(admin)
    await redis.set(viewer, second)
    await redis.set(admin, first)
    assert [await sessions.find(cookie) for cookie in cookies] == [None, None]
    await redis.set(viewer, orjson.dumps({"name": "eve", "roles": ["admin"], "portals": None, "began": 9e9}))
    assert [await sessions.find(cookie) for cookie in cookies] == [None, None]


async def test_login_link_written_to_redis_opens_no_account(redis: Redis, users: Users) -> None:
    await users.put("ada", [Role.ADMIN])
    own, foreign = await users.create_login_link("ada"), await users.create_login_link("bob")
    names = [name async for name in redis.scan_iter("spokes:console:link:*")]
    for name in names:
        await redis.set(name, "ada")
    assert [await users.redeem_login_link(token) for token in (own, foreign)] == [None, None]


async def test_account_of_an_earlier_version_logs_in_once_it_is_sealed(redis: Redis, users: Users) -> None:
    await redis.hset(CONSOLE_USERS, "old", '{"roles": ["viewer"], "portals": [7], "phc": ""}')  # type: ignore[misc]  # as above
    await users.put("ada", [Role.ADMIN])
    assert [user.name for user in await users.unsealed()] == ["old"]
    assert (await users.seal("old"), await users.seal("old"), await users.seal("ada")) == (True, False, False)
    assert await users.unsealed() == ()
    old = await users.find("old")
    assert old is not None
    assert (old.roles, old.portals) == ({Role.VIEWER}, {7})


async def test_unsealed_account_can_be_removed(redis: Redis, users: Users) -> None:
    await redis.hset(CONSOLE_USERS, "eve", ADMIN)  # type: ignore[misc]  # as above
    assert (await users.remove("eve"), await users.remove("eve")) == (True, False)
