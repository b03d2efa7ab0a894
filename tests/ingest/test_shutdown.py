"""Shutdown of the web process, alone and under gunicorn."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from redis.asyncio import Redis

from spokes.core.redis.keys import JOB_QUEUE
from tests.ingest.conftest import PATH
from tests.support.deployment import PUBLIC_URL, ROOT, Sign
from tests.support.events import batch, event


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", ["1", "2"])
async def test_web_process_answers_requests_in_flight_at_shutdown(
    environ: dict[str, str], redis: Redis, sign: Sign, concurrency: str, unused_tcp_port: int
) -> None:
    options = {"BODY_TIMEOUT_S": "60", "LOG_LEVEL": "ERROR", "PORT": str(unused_tcp_port)}
    env = {**os.environ, **environ, **options, "WEB_CONCURRENCY": concurrency}
    web = _start_web_process(env)
    base = f"http://127.0.0.1:{unused_tcp_port}"
    try:
        async with aiohttp.ClientSession() as session:
            await _await_ready(session, base)
            body = batch(event(1))
            headers = {**sign(body), "Content-Length": str(len(body))}

            async def slow_body() -> AsyncIterator[bytes]:
                yield body[:5]
                web.send_signal(signal.SIGTERM)
                await _await_refusal(unused_tcp_port)
                yield body[5:]

            async with session.post(base + PATH, data=slow_body(), headers=headers) as response:
                assert response.status == 202
        assert await asyncio.to_thread(web.wait, 50) == 0
    finally:
        web.kill()
        web.wait()
    assert await redis.zcard(JOB_QUEUE) == 1


@pytest.mark.slow
def test_sigterm_ends_a_newly_forked_web_process(environ: dict[str, str]) -> None:
    """The child inherits a handler from gunicorn's parent process that would do nothing in the child."""
    program = """if True:
        import os, signal
        from spokes.core.settings import Settings
        from ingest.prefork import PreforkServer
        signal.signal(signal.SIGTERM, lambda *_: None)
        PreforkServer(Settings.from_env(), graceful_s=1, child_folder=None)
        if not (child := os.fork()):
            signal.raise_signal(signal.SIGTERM)
            os._exit(7)
        signal.raise_signal(signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True,
        timeout=50, check=True,
    )  # fmt: skip
    assert done.stdout == f"{-signal.SIGTERM}\n"


def _start_web_process(env: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "ingest"], cwd=ROOT, env=env)


async def _await_refusal(port: int) -> None:
    """Wait until every process has begun to stop, but well within the time that requests in flight have."""
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.05)


async def _await_ready(session: aiohttp.ClientSession, base: str) -> None:
    deadline = time.monotonic() + 50
    while time.monotonic() < deadline:
        try:
            async with session.get(f"{base}/readyz") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    pytest.fail(f"no web process at {base}, behind {PUBLIC_URL}")
