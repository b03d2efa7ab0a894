"""spokes.core.redis.pool: no call fails or stalls because a server takes no more clients."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected

from spokes.core.redis.connections import redis_client
from spokes.core.redis.pool import RedisPool
from spokes.core.settings import Settings
from spokes.intake.redis_lines import RedisLines
from tests.support.redis_server import own_server

MAX_CLIENTS = 6  # of the server; the test's own client takes one


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with own_server(tmp_path, maxclients=str(MAX_CLIENTS)) as (url, _):
        yield url


def client_of(url: str, *, max_connections: int, timeout_s: float = 5.0) -> Redis:
    return redis_client(Settings.from_env({"REDIS_URL": url}), max_connections=max_connections, timeout_s=timeout_s)


async def in_use(client: Redis) -> int:
    return int((await client.info("clients"))["connected_clients"])


async def test_calls_continue_on_held_connections_at_maxclients(url: str) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(url, max_connections=10)) for _ in range(3)]
        for client in clients:
            await client.ping()
        async with asyncio.timeout(20):
            for _ in range(20):
                await asyncio.gather(*(client.echo(str(n)) for n in range(40) for client in clients))
        assert await in_use(clients[0]) <= MAX_CLIENTS


async def test_connected_connections_are_handed_out_after_a_refusal(url: str) -> None:
    async with client_of(url, max_connections=10) as client:
        await asyncio.gather(*(client.ping() for _ in range(30)))
        before = (await client.info("stats"))["rejected_connections"]
        for _ in range(20):
            await client.ping()
        assert (await client.info("stats"))["rejected_connections"] == before


async def test_process_without_a_connection_gets_one_when_another_leaves(url: str) -> None:
    async with client_of(url, max_connections=10) as first, client_of(url, max_connections=2) as late:
        holders = [await first.connection_pool.get_connection() for _ in range(MAX_CLIENTS)]
        with pytest.raises(Disconnected):
            await late.ping()
        for holder in holders:
            await holder.disconnect()
            await first.connection_pool.release(holder)
        assert await late.ping()


async def test_pool_opens_no_more_connections_than_allowed(redis: Redis, valkey_url: str) -> None:
    before = await in_use(redis)
    async with client_of(valkey_url, max_connections=3) as client:
        await asyncio.gather(*(client.ping() for _ in range(50)))
        assert await in_use(redis) - before <= 3


async def test_call_fails_in_time_when_no_connection_is_released(valkey_url: str) -> None:
    async with client_of(valkey_url, max_connections=1, timeout_s=0.3) as client:
        connection = await client.connection_pool.get_connection()
        started = time.monotonic()
        with pytest.raises(Disconnected, match="no connection is free"):
            await client.ping()
        assert time.monotonic() - started < 4  # the default is 5
        await client.connection_pool.release(connection)
        assert await client.ping()


async def test_unreachable_server_fails_at_once_although_a_connection_is_held(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with own_server(tmp_path) as (url, _):
            client = await stack.enter_async_context(client_of(url, max_connections=2, timeout_s=20))
            held = await client.connection_pool.get_connection()
        started = time.monotonic()
        with pytest.raises(Disconnected):
            await client.ping()
        assert time.monotonic() - started < 15
        await client.connection_pool.release(held)


async def test_cancelled_call_passes_the_released_connection_on(valkey_url: str) -> None:
    async with client_of(valkey_url, max_connections=1) as client:
        connection = await client.connection_pool.get_connection()
        cancelled, other = asyncio.ensure_future(client.ping()), asyncio.ensure_future(client.ping())
        await asyncio.sleep(0.05)
        await client.connection_pool.release(connection)
        cancelled.cancel()
        async with asyncio.timeout(0.9):
            assert await other
        await asyncio.gather(cancelled, return_exceptions=True)


async def test_connection_that_the_server_closed_is_replaced(redis: Redis, valkey_url: str) -> None:
    async with client_of(valkey_url, max_connections=2) as client:
        await redis.client_kill_filter(_id=await client.client_id())
        await asyncio.sleep(0.05)
        assert await client.ping()


async def test_admission_waits_for_its_own_line_at_maxclients(url: str) -> None:
    async with client_of(url, max_connections=20) as client, client_of(url, max_connections=20) as other:
        await client.ping()
        held = [await other.connection_pool.get_connection() for _ in range(MAX_CLIENTS - 3)]
        pool = client.connection_pool
        assert isinstance(pool, RedisPool)
        lines = RedisLines(pool, timeout_s=5)
        for _ in range(5):
            replies = await asyncio.gather(*(lines.call(("ECHO", n)) for n in range(30)))
            assert replies == [[str(n).encode()] for n in range(30)]
        await lines.close()
        for connection in held:
            await other.connection_pool.release(connection)
