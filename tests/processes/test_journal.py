"""The reader of the journal as running processes: killed, frozen, twice, and without Redis."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.delivery import Delivery, decode
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import JournalConfig, PortalConfig, SimulatorConfig
from spokes.simulator.demo import clean_environment, wait_until_ready
from tests.support.deployment import KEY, PUBLIC_URL, ROOT, SECRET, TOKEN
from tests.support.free_ports import free_port
from tests.support.redis_server import own_server

pytestmark = pytest.mark.slow
EVENTS = 2_000


@dataclass
class JournalDeployment:
    """A HubSpot with a journal, a Redis of its own, and the readers that a test starts."""

    hubspot: Simulator
    redis: Redis
    environ: dict[str, str]
    readers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, module: str = "ingest.journal", **environ: str) -> subprocess.Popen[bytes]:
        env = clean_environment({**self.environ, **environ})
        process = subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
        self.readers.append(process)
        return process

    def kill(self) -> None:
        for process in self.readers:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def create(self, count: int) -> None:
        contacts = self.hubspot.crm.types.resolve("contacts")
        for _ in range(count):
            self.hubspot.crm.create(contacts, {"firstname": "Ada"}, USER)
        self.hubspot.journal.store.publish()

    async def object_ids(self) -> list[str]:
        """Return the ids of all queued creations."""
        ids: list[str] = []
        for name in await self.redis.zrange(JOB_QUEUE, 0, -1):
            job = decode(await self.redis.get(JOB_KEY_PREFIX + name.decode()))
            entries = Delivery.from_job(job["a"][0]).entries
            ids += [entry.event.object_id for entry in entries if entry.event.kind == "creation"]
        return ids

    async def wait_for(self, count: int, seconds: float = 120.0) -> None:
        """Wait until that many creations are queued."""
        async with asyncio.timeout(seconds):
            while True:
                with suppress(RedisError, OSError):
                    if len(set(await self.object_ids())) >= count:
                        return
                await asyncio.sleep(0.2)

    async def check(self, count: int) -> None:
        """Check that every creation is queued exactly once."""
        ids = await self.object_ids()
        assert (len(ids), len(set(ids))) == (count, count)


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[JournalDeployment]:
    config = SimulatorConfig(
        portals=(PortalConfig(token=TOKEN),), client_secret=SECRET,
        journal=JournalConfig(max_entries=50, linger_s=0.1), speed=100.0,
    )  # fmt: skip
    async with own_server(tmp_path) as (url, redis), Simulator(config) as hubspot:
        environ = {
            "HUBSPOT_CLIENT_SECRET": SECRET, "HUBSPOT_CLIENT_ID": config.oauth.client_id, "PUBLIC_URL": PUBLIC_URL,
            "HUBSPOT_API_URL": hubspot.url, "REDIS_URL": url, "DATA_DIR": str(tmp_path / "data"), "AUDIT_KEY": KEY,
            "SECRETS_KEY": "s" * 32, "DEDUPE_HOURS": "96", "HANDLERS": "handlers",
        }  # fmt: skip
        running = JournalDeployment(hubspot, redis, environ)
        yield running
        running.kill()


async def test_readers_that_are_killed_all_the_time_lose_and_repeat_nothing(deployment: JournalDeployment) -> None:
    rng = random.Random(7)
    deployment.create(EVENTS)
    for _ in range(4):
        reader = deployment.start()
        await asyncio.sleep(rng.uniform(1.0, 2.5))
        reader.kill()
        deployment.create(50)
        await deployment.redis.delete("spokes:journal:reader")  # its lease would last for seconds
    deployment.start()
    await deployment.wait_for(EVENTS + 200)
    await deployment.check(EVENTS + 200)


async def test_two_readers_of_which_one_is_frozen_lose_and_repeat_nothing(deployment: JournalDeployment) -> None:
    first, second = deployment.start(), deployment.start()
    deployment.create(EVENTS)
    await deployment.wait_for(100)
    for process in (first, second):
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1)
        process.send_signal(signal.SIGCONT)
    deployment.create(100)
    await deployment.wait_for(EVENTS + 100)
    await deployment.check(EVENTS + 100)


async def test_redis_that_goes_away_holds_the_reader_up_only(deployment: JournalDeployment) -> None:
    deployment.start()
    deployment.create(EVENTS)
    await deployment.wait_for(100)
    await deployment.redis.execute_command("CLIENT", "PAUSE", 4000, "ALL")
    deployment.create(100)
    await deployment.wait_for(EVENTS + 100)
    await deployment.check(EVENTS + 100)


async def test_stopped_reader_ends_with_success(deployment: JournalDeployment) -> None:
    reader = deployment.start()
    deployment.create(10)
    await deployment.wait_for(10)
    reader.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(reader.wait, 90) == 0
    assert await deployment.redis.get("spokes:journal:reader") is None


async def test_web_process_runs_the_reader_as_its_child(deployment: JournalDeployment) -> None:
    port = free_port()
    web = deployment.start(
        "ingest", JOURNAL="1", PORT=str(port), HOST="127.0.0.1", CONSOLE_KEY="c" * 40, DEDUPE_HOURS="96"
    )
    await wait_until_ready(f"http://127.0.0.1:{port}")
    deployment.create(20)
    await deployment.wait_for(20)
    (child,) = _children(web.pid, b"ingest.journal")
    os.kill(child, signal.SIGKILL)
    deployment.create(20)
    await deployment.wait_for(40)
    web.kill()  # its child sees the end of its standard input
    async with asyncio.timeout(90):
        while _children(1, b"ingest.journal", deployment.environ["DATA_DIR"].encode()):  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.1)
    await deployment.check(40)


def _children(parent: int, argument: bytes, setting: bytes = b"") -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_text().rpartition(")")[2].split()
            if argument not in (process / "cmdline").read_bytes().split(b"\0"):
                continue
            if int(stat[1]) == parent and setting in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found
