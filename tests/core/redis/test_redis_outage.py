"""spokes.core.redis.errors and outage: which errors of real servers are outages, and how an outage is logged."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from structlog.testing import capture_logs

from spokes.core.errors import ConfigurationError
from spokes.core.redis import outage as redis_outage
from spokes.core.redis.errors import RedisFault, classify, first_word, is_redis_outage, unusable_sentence
from spokes.core.redis.outage import RedisOutage, wait_s
from tests.support.free_ports import free_port
from tests.support.redis_server import busy_script, fill_memory, own_server

Call = Callable[[Redis], Awaitable[Any]]
WRITE_IN_SCRIPT = "return redis.call('SET', 'key', 'value')"


async def refusal(call: Awaitable[Any]) -> RedisError:
    with pytest.raises(RedisError) as raised:
        await call
    return raised.value


async def in_pipeline(redis: Redis, *, transaction: bool) -> None:
    async with redis.pipeline(transaction=transaction) as pipeline:
        pipeline.get("other")
        pipeline.set("key", "OOM value")
        await pipeline.execute()


CALLS: dict[str, Call] = {
    "command": lambda redis: redis.set("key", "value"),
    "script": lambda redis: redis.eval(WRITE_IN_SCRIPT, 0),
    "transaction": lambda redis: in_pipeline(redis, transaction=True),
    "pipeline": lambda redis: in_pipeline(redis, transaction=False),
}


async def make_full(redis: Redis) -> None:
    await redis.config_set("maxmemory", "2mb")
    await fill_memory(redis)


async def make_replica(redis: Redis) -> None:
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")


async def make_stale_replica(redis: Redis) -> None:
    await make_replica(redis)
    await redis.config_set("replica-serve-stale-data", "no")


async def want_replicas(redis: Redis) -> None:
    await redis.config_set("min-replicas-to-write", 1)


REFUSALS: dict[str, tuple[Call, RedisFault]] = {
    "OOM": (make_full, RedisFault.FULL),
    "READONLY": (make_replica, RedisFault.OUTAGE),
    "MASTERDOWN": (make_stale_replica, RedisFault.OUTAGE),
    "NOREPLICAS": (want_replicas, RedisFault.OUTAGE),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("prepare", "expected"), REFUSALS.values(), ids=REFUSALS)
async def test_refusal_that_heals_is_an_outage(tmp_path: Path, prepare: Call, expected: RedisFault, call: Call) -> None:
    async with own_server(tmp_path) as (_, redis):
        await prepare(redis)
        error = await refusal(call(redis))
    assert (classify(error), is_redis_outage(error)) == (expected, True), error


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_busy_server_is_an_outage(tmp_path: Path, call: Call) -> None:
    async with own_server(tmp_path, busy_reply_threshold="50") as (url, redis), busy_script(url, redis):
        error = await refusal(call(redis))
    assert (classify(error), first_word(error)) == (RedisFault.OUTAGE, "BUSY")


async def test_refused_connection_is_an_outage(tmp_path: Path) -> None:
    async with own_server(tmp_path, maxclients="2") as (url, redis), AsyncExitStack() as stack:
        await redis.ping()
        clients = [await stack.enter_async_context(Redis.from_url(url)) for _ in range(4)]
        await clients[0].ping()
        assert classify(await refusal(clients[-1].ping())) is RedisFault.OUTAGE


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_key_of_another_type_is_no_outage(tmp_path: Path, call: Call) -> None:
    async with own_server(tmp_path) as (_, redis):
        await redis.rpush("other", "x")
        await redis.rpush("list", "x")
        error = await refusal(redis.eval("return redis.call('GET', 'list')", 0))
        if call in {CALLS["transaction"], CALLS["pipeline"]}:
            error = await refusal(call(redis))
    assert (classify(error), is_redis_outage(error)) == (RedisFault.WRONG_TYPE, False)


ACCOUNTS: dict[str, tuple[str, str]] = {
    "wrong password": ("redis://user:wrong@", "user name or the password"),
    "no permission": ("redis://user:right@", "lacks a permission"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("prefix", "sentence"), ACCOUNTS.values(), ids=ACCOUNTS)
async def test_refused_user_cannot_heal(tmp_path: Path, prefix: str, sentence: str, call: Call) -> None:
    async with own_server(tmp_path) as (url, redis):
        await redis.execute_command("ACL", "SETUSER", "user", "on", ">right", "~*", "&*", "+@all", "-set")
        async with Redis.from_url(url.replace("redis://", prefix)) as client:
            error = await refusal(call(client))
    assert classify(error) is RedisFault.UNUSABLE
    assert sentence in unusable_sentence(error)


async def test_missing_password_cannot_heal(tmp_path: Path) -> None:
    async with own_server(tmp_path) as (url, redis):
        await redis.config_set("requirepass", "secret")
        async with Redis.from_url(url) as client:
            assert classify(await refusal(client.ping())) is RedisFault.UNUSABLE


async def test_unknown_database_cannot_heal(tmp_path: Path) -> None:
    async with own_server(tmp_path) as (url, _), Redis.from_url(f"{url}/99") as client:
        error = await refusal(client.ping())
    assert "database that REDIS_URL names" in unusable_sentence(error)


async def test_cluster_mode_cannot_heal(tmp_path: Path) -> None:
    async with own_server(tmp_path, cluster_enabled="yes", cluster_port=str(free_port())) as (_, redis):
        await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        while b"cluster_state:ok" not in await redis.execute_command("CLUSTER", "INFO"):  # noqa: ASYNC110 - the server gets there
            await asyncio.sleep(0.05)
        error = await refusal(redis.eval("return 1", 2, "one", "two"))
    assert (first_word(error), "cluster mode" in unusable_sentence(error)) == ("CROSSSLOT", True)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("OOM", RedisFault.FULL), ("READONLY", RedisFault.OUTAGE), ("WRONGTYPE", RedisFault.WRONG_TYPE)],
)
def test_error_that_redis_6_quotes_from_a_script_is_recognised(word: str, expected: RedisFault) -> None:
    text = f"Error running script (call to f_2fa): @user_script:7: @user_script: 7: -{word} command not allowed"
    assert classify(ResponseError(text)) is expected


def test_connection_error_of_a_handler_is_not_a_redis_outage() -> None:
    assert (is_redis_outage(ConnectionError()), is_redis_outage(RedisConnectionError())) == (False, True)


async def test_outage_has_one_log_line_at_its_start_and_one_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_outage, "_FIRST_WAIT_S", 0.0)
    outage = RedisOutage()
    with capture_logs() as lines:
        for task in ("claims", "leases", "claims"):
            await outage.wait(RedisConnectionError(), task)
        for task in ("claims", "claims", "leases", "leases"):
            outage.mark_available(task)
    assert [line["event"] for line in lines] == ["redis_outage_started", "redis_outage_ended"]


async def test_unusable_redis_is_logged_once_and_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_outage, "_FIRST_WAIT_S", 0.0)
    outage = RedisOutage()
    outage.raise_if_unusable()
    async with own_server(tmp_path) as (url, _), Redis.from_url(url.replace("//", "//who:x@")) as client:
        error = await refusal(client.ping())
    with capture_logs() as lines:
        for _ in range(2):
            await outage.wait(error, "claims")
    assert [line["event"] for line in lines] == ["redis_outage_started", "redis_unusable"]
    with pytest.raises(ConfigurationError, match="Redis refuses the user name"):
        outage.raise_if_unusable()


def test_pauses_grow_up_to_a_limit() -> None:
    waits = [wait_s(failures, 1.0) for failures in range(1, 30)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.25, 2.0)
