"""A Redis key of a wrong type, or a malformed member, costs itself alone: every page, route and command answers."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.operator_redis import operator_redis
from spokes.console.web.app_keys import SETTINGS
from spokes.core.delivery import Entry
from spokes.core.redis.key_table import KEYS
from spokes.core.redis.key_types import WrongKeyType
from spokes.core.redis.keys import CONSOLE_USERS, PAUSED_PORTALS
from spokes.core.settings import Settings
from spokes.queue.dead_letters import DeadLetter
from tests.support.command_line import spokes
from tests.support.console_visitor import Visitor, running_console
from tests.support.deployment import KEY
from tests.support.events import event, store_dead_letters

PORTAL = 50112233
NAMES = {
    "portal_id": str(PORTAL), "delivery_id": f"{PORTAL}-1-1", "object_type": "contact", "object_id": "5",
    "event_key": "aa", "reason": "object_not_found", "handler": "h", "key": "qq", "kind": "calls", "name": "archiver",
    "hour": "0", "number": "n", "window": "0",
}  # fmt: skip
PATH_PARTS = {"portal": str(PORTAL), "key": "aa", "name": "console.css", "id": f"{PORTAL}-1-1", "word": "w"}
# Whoever lost these cannot be told from a stranger.
SIGN_IN = ("spokes:console:",)


def concrete(pattern: str) -> str:
    """Return an instance of a pattern of keys."""
    return re.sub(r"\{(\w+)\}", lambda match: NAMES.get(match[1], "x"), pattern)


PLANTED = {
    concrete(key.pattern): key.type for key in KEYS if key.type != "channel" and not key.pattern.startswith(SIGN_IN)
}


async def plant(redis: Redis, name: str, type_: str) -> None:
    """Store another type of value than the key has."""
    await redis.delete(name)
    if type_ == "string":
        await redis.rpush(name, "text")  # type: ignore[misc]  # redis-py types one class for sync and async
    else:
        await redis.set(name, "text")


async def plant_members(redis: Redis, name: str, type_: str) -> None:
    """Add members that nobody can read."""
    match type_:
        case "string":
            await redis.set(name, b"\xff\x00")
        case "set":
            await redis.sadd(name, b"\xff", b"[", b"x")  # type: ignore[misc]  # as above
        case "sorted set":
            await redis.zadd(name, {b"\xff": 1, b"x": float("inf"), b"{}": -1})
        case "hash":
            await redis.hset(name, mapping={b"\xff": b"\xff", b"x": b"[", b"7": b"", str(PORTAL): b"null"})  # type: ignore[misc]  # as above
        case "list":
            await redis.lpush(name, b"\xff", b"[]", b"x")  # type: ignore[misc]  # as above
        case "stream":
            await redis.xadd(name, {b"\xff": b"\xff"})


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis, sqlite_engine: AsyncEngine) -> AsyncIterator[TestClient]:
    await Archiver(redis, sqlite_engine, KEY).run_once()
    letter = DeadLetter(PORTAL, f"{PORTAL}-1-1", Entry("aa", 1, event(objectId=5)), "object_not_found", "h", 1)
    await store_dead_letters(redis, letter)
    async with running_console(environ) as client:
        yield client


async def failures(client: TestClient) -> list[str]:
    """Return every page and API route that answers 5xx."""
    visitor = await Visitor.signed_in(client, *Role)
    token = ApiTokens.from_settings(client.server.app[SETTINGS]).mint("robot", list(Role), None).token
    paths = {
        re.sub(r"\{(\w+)\}", lambda match: PATH_PARTS[match[1]], route.resource.canonical)
        for route in client.server.app.router.routes()
        if route.method == "GET" and route.resource is not None and not route.resource.canonical.endswith("/live")
    }
    failed = []
    for path in sorted(paths):
        query = {"q": "contact 5", "object": "contact 5"} if path.endswith(("/object", "/timeline")) else {}
        query = {"object": "contact 5"} if path.endswith("/timeline") else query
        if path.startswith("/console"):
            status, _ = await visitor.get(path, **query)
        else:
            async with client.get(path, params=query, headers={"Authorization": f"Bearer {token}"}) as response:
                status = response.status
        if status >= 500:
            failed.append(f"{path} {status}")
    return failed


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
async def test_key_of_another_type_breaks_no_page_and_no_route(client: TestClient, redis: Redis, name: str) -> None:
    await plant(redis, name, PLANTED[name])
    assert await failures(client) == []


@pytest.mark.parametrize("planted", [plant, plant_members], ids=["types", "members"])
async def test_all_keys_spoilt_at_once_break_no_page_and_no_route(
    client: TestClient, redis: Redis, planted: Callable[[Redis, str, str], Awaitable[None]]
) -> None:
    for name, type_ in PLANTED.items():
        await planted(redis, name, type_)
    assert await failures(client) == []


COMMANDS = (
    ("dead", "list"), ("dead", "list", "--quarantined"), ("dead", "show", "aa"), ("queue",), ("alerts",),
    ("timeline", "contact", "5"), ("pause",), ("doctor",), ("audit", "query"),
)  # fmt: skip


@pytest.mark.parametrize("planted", [plant, plant_members], ids=["types", "members"])
async def test_no_command_ends_in_a_traceback(
    environ: dict[str, str], redis: Redis, migrated_store: None, planted: Callable[[Redis, str, str], Awaitable[None]]
) -> None:
    for name, type_ in PLANTED.items():
        if not name.startswith("spokes:deployment"):
            await planted(redis, name, type_)
    for command in COMMANDS:
        done = spokes(environ, *command)
        assert (command, done.returncode in {0, 1}, "Traceback" in done.stderr) == (command, True, False), done


WRITING_COMMANDS = (
    ("pause", "7"), ("resume", "7"), ("pause", "--handler", "contacts.keep_reachable"), ("dead", "replay", "aa"),
    ("dead", "discard", "aa"), ("dead", "replay", "--quarantined", "qq"), ("user", "add", "ada@example.com"),
    ("login-link", "ada@example.com"), ("privacy", "erase", "contact", "5", "--portal", str(PORTAL)),
    ("alerts", "test"), ("queue",), ("secrets", "list"), ("portals", "list"), ("gaps", "list"),
)  # fmt: skip


@pytest.mark.parametrize("command", WRITING_COMMANDS, ids=" ".join)
async def test_command_that_fails_names_the_key_of_another_type(
    environ: dict[str, str], redis: Redis, migrated_store: None, command: tuple[str, ...]
) -> None:
    for name, type_ in PLANTED.items():
        if not name.startswith("spokes:deployment"):
            await plant(redis, name, type_)
    await plant(redis, CONSOLE_USERS, "hash")
    done = spokes(environ, *command)
    assert "does not answer" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "WRONGTYPE" not in done.stderr or "another type of value at spokes:" in done.stderr


@pytest.mark.parametrize("command", [("pause", "7", "--reason", "import"), ("resume", "7")], ids=" ".join)
async def test_pause_names_its_key_of_another_type_and_what_to_do(
    environ: dict[str, str], redis: Redis, command: tuple[str, ...]
) -> None:
    await redis.set(PAUSED_PORTALS, "text")
    done = spokes(environ, *command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "WRONGTYPE: Redis holds another type of value at spokes:paused: something else uses this Redis. Find it. "
        "Workers rename the key within seconds, and Spokes creates its own; if no worker runs, start one.\n"
    )


async def test_route_names_the_key_of_another_type(client: TestClient, redis: Redis) -> None:
    token = ApiTokens.from_settings(client.server.app[SETTINGS]).mint("robot", list(Role), None).token
    await redis.set(PAUSED_PORTALS, "text")
    async with client.post(
        f"/api/v1/portals/{PORTAL}/pause", json={"reason": "import"}, headers={"Authorization": f"Bearer {token}"}
    ) as response:
        assert (response.status, "another type of value at spokes:paused" in await response.text()) == (503, True)


async def test_key_with_parameters_is_named_in_full(environ: dict[str, str], redis: Redis) -> None:
    async with operator_redis(Settings.from_env(environ)) as ours:
        await redis.set("spokes:7:newest:contact:5", "text")
        with pytest.raises(WrongKeyType, match=r"at spokes:7:newest:contact:5: .* Then rename the key, or delete it"):
            async with ours.pipeline(transaction=False) as pipeline:
                await pipeline.set("spokes:7:probe:x", "1").hset("spokes:7:newest:contact:5", "a", "b").execute()
