"""Disruptions of the Redis server: it refuses writes or clients, is busy, or a replica takes its place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chaos.stack import Stack

_ROOM_BYTES: Final = (0, 200_000)  # until the limit is reached: at once, or while events are stored
_REFUSAL: Final = b"-ERR max number of clients"
_RETAKE_S: Final = 0.05  # between attempts of other clients to take a free connection
_BUSY_AFTER_MS: Final = 50
_FAILOVER_TIMEOUT_S: Final = 20.0
_START_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.05


async def fill_memory(stack: Stack, duration_s: float, rng: Random) -> None:
    """Lower maxmemory to what is used, or to a little more, and remove the limit afterwards."""
    async with stack.exclusive("valkey"), _admin(stack) as redis:
        used = int((await redis.info("memory"))["used_memory"])
        async with _setting(redis, "maxmemory", used + rng.choice(_ROOM_BYTES)):
            await asyncio.sleep(duration_s)


async def require_replicas(stack: Stack, duration_s: float, rng: Random) -> None:
    """Have the server refuse writes for lack of replicas."""
    del rng
    async with stack.exclusive("valkey"), _admin(stack) as redis, _setting(redis, "min-replicas-to-write", 1):
        await asyncio.sleep(duration_s)


async def exhaust_clients(stack: Stack, duration_s: float, rng: Random) -> None:
    """Let other clients take every connection, those of some of our connections included, which are closed."""
    async with stack.exclusive("valkey"), _admin(stack) as redis, AsyncExitStack() as strangers:
        admin_id, clients = await redis.client_id(), await redis.client_list()
        async with _setting(redis, "maxclients", len(clients) + 1):
            ours = [client["id"] for client in clients if int(client["id"]) != admin_id]
            for client_id in rng.sample(ours, rng.randint(0, len(ours))):
                with suppress(RedisError):  # it has just closed its connection
                    await redis.client_kill_filter(_id=client_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(duration_s):
                    await _take_connections(stack.ports["valkey"], strangers)


async def run_busy_script(stack: Stack, duration_s: float, rng: Random) -> None:
    """Run another application's endless script, and kill it afterwards."""
    del rng
    async with stack.exclusive("valkey"), _admin(stack) as redis, _setting(redis, "lua-time-limit", _BUSY_AFTER_MS):
        other = stack.redis()
        script = asyncio.create_task(_run_endless_script(other))
        try:
            await asyncio.sleep(duration_s)
        finally:
            await redis.script_kill()
            await script
            await other.aclose()


async def fail_over(stack: Stack, duration_s: float, rng: Random) -> None:
    """Promote a replica; the former primary stays for a while as a replica that refuses writes."""
    async with stack.exclusive("valkey"):
        former = stack.processes["valkey"]
        new, port = stack.build_valkey()
        stack.processes["new valkey"] = new
        await new.start()
        await stack.wait_until_listening(port)
        async with asyncio.timeout(_FAILOVER_TIMEOUT_S), _admin(stack) as primary, _admin(stack, port) as replica:
            await replica.replicaof("127.0.0.1", stack.ports["valkey"])
            await _wait_for_replication_state(replica, "master_link_status", "up")
            await primary.execute_command("FAILOVER", "TO", "127.0.0.1", port)  # type: ignore[no-untyped-call]  # redis-py has no annotation
            await _wait_for_replication_state(replica, "role", "master")
        stack.ports["valkey"] = port
        if rng.random() < 0.5:  # noqa: PLR2004 - the platform resets connections, or leaves them to the client
            stack.links["queue of web"].cut()
            stack.links["queue of workers"].cut()
        await asyncio.sleep(duration_s)
        stack.processes["valkey"] = new
        del stack.processes["new valkey"]
        await stack.terminate(former)


async def _run_endless_script(redis: Redis) -> None:
    with suppress(RedisError):  # it is killed
        await redis.eval("while true do end", 0)  # type: ignore[misc]  # redis-py types one class for sync and async


@asynccontextmanager
async def _admin(stack: Stack, port: int | None = None) -> AsyncIterator[Redis]:
    """Yield a connected client that does not use the proxies, once the server has loaded its data."""
    async with stack.redis(port) as redis:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not await _answers(redis):  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(_POLL_S)
        yield redis


async def _answers(redis: Redis) -> bool:
    try:
        return bool(await redis.ping())
    except RedisError:
        return False


@asynccontextmanager
async def _setting(redis: Redis, name: str, value: int) -> AsyncIterator[None]:
    before = (await redis.config_get(name))[name]
    await redis.config_set(name, value)
    try:
        yield
    finally:
        await redis.config_set(name, before)


async def _take_connections(port: int, stack: AsyncExitStack) -> None:
    """Open connections and keep them in `stack`, until cancelled."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PING\r\n")
        if (await reader.readline()).startswith(_REFUSAL):
            writer.close()
            await asyncio.sleep(_RETAKE_S)
        else:
            stack.callback(writer.transport.abort)


async def _wait_for_replication_state(redis: Redis, name: str, value: str) -> None:
    while (await redis.info("replication")).get(name) != value:  # noqa: ASYNC110 - another process changes it
        await asyncio.sleep(_POLL_S)
