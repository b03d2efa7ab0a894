"""The console through the web process: real processes, real sockets."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout
from redis.asyncio import Redis

from ingest.server.console_proxy import is_console_path
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.accounts.users import Users
from spokes.core.settings import Settings
from tests.support.console_visitor import KEY, SEALS
from tests.support.deployment import ROOT
from tests.support.waiting import until

DEADLINE_S = 40.0  # a process starts in two seconds; the machine may be busy


class RunningWebProcess:
    """A web process with its console, and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, session: ClientSession) -> None:
        self.process, self.url, self.session = process, url, session

    async def get(self, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        async with self.session.get(self.url + path, headers=headers, allow_redirects=False) as response:
            return response.status, await response.text(), response.headers

    async def wait_for_status(self, path: str, status: int) -> str:
        """Request `path` until it is answered with `status`; return the body."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(OSError):
                    received, body, _ = await self.get(path)
                    if received == status:
                        return body
                await asyncio.sleep(0.1)


Start = Callable[..., Awaitable[RunningWebProcess]]


@pytest.fixture
async def start(environ: dict[str, str], redis: Redis, unused_tcp_port: int) -> AsyncIterator[Start]:
    """Start a web process; the fixture ends it, and its private folder goes with it."""
    assert await redis.ping()
    started: list[asyncio.subprocess.Process] = []
    with tempfile.TemporaryDirectory() as folder:  # a short name, because the path of a Unix socket is limited
        async with ClientSession(timeout=ClientTimeout(total=DEADLINE_S)) as session:

            async def start_web_process(**variables: str) -> RunningWebProcess:
                env = {
                    **os.environ,
                    **environ,
                    "HOST": "127.0.0.1",
                    "PORT": str(unused_tcp_port),
                    "TMPDIR": folder,
                    **variables,
                }
                process = await asyncio.create_subprocess_exec(sys.executable, "-m", "ingest", cwd=ROOT, env=env)
                started.append(process)
                return RunningWebProcess(process, f"http://127.0.0.1:{unused_tcp_port}", session)

            yield start_web_process
            for process in started:
                if process.returncode is None:
                    process.terminate()
                await asyncio.wait_for(process.wait(), DEADLINE_S)


def console_pids() -> set[int]:
    """Return the ids of running console processes that descend from this test."""
    pids = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            args = (process / "cmdline").read_bytes().split(b"\0")
            if b"serve" in args and b"--with-parent" in args and _descends_from_this_test(process):
                pids.add(int(process.name))
    return pids


def _descends_from_this_test(process: Path) -> bool:
    return f"TEST_MARK={os.getpid()}".encode() in (process / "environ").read_bytes().split(b"\0")


@pytest.mark.parametrize(
    ("path", "is_console"),
    [
        ("/console", True),
        ("/console?x=1", True),
        ("/console/now", True),
        ("/api/v1/queue", True),
        ("/oauth/install", True),
        ("/oauth/callback?code=x", True),
        ("/oauth", False),
        ("/consoles", False),
        ("/api", False),
        ("/webhooks/hubspot", False),
        ("/readyz", False),
    ],
)
def test_only_paths_of_console_and_api_are_proxied(path: str, is_console: bool) -> None:
    assert is_console_path(path) == is_console


async def test_without_a_key_there_is_no_console(start: Start) -> None:
    web = await start()
    await web.wait_for_status("/healthz", 200)
    assert [(await web.get(path))[0] for path in ("/console", "/console/login", "/api/v1/queue")] == [404] * 3


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_console_is_served_restarted_and_ended_with_the_web_process(
    start: Start, redis: Redis, environ: dict[str, str], processes: str
) -> None:
    web = await start(CONSOLE_KEY=KEY, WEB_CONCURRENCY=processes, TEST_MARK=str(os.getpid()))
    await web.wait_for_status("/console/login", 200)
    assert len(console_pids()) == 1

    status, _, headers = await web.get("/api/v1/queue")
    assert (status, headers["Content-Type"], headers["WWW-Authenticate"]) == (
        401,
        "application/problem+json",
        "Bearer",
    )
    token = (
        ApiTokens.from_settings(Settings.from_env({**environ, "CONSOLE_KEY": KEY})).mint("robot", [Role.VIEWER]).token
    )
    status, body, _ = await web.get("/api/v1/queue", Authorization=f"Bearer {token}")
    assert (status, '"due":0' in body) == (200, True)

    # A login through both processes: form, cookie, a stream of events.
    await Users(redis, SEALS).put("ada", [Role.VIEWER], None, "correct horse battery")
    form = {"name": "ada", "password": "correct horse battery"}
    origin = {"Origin": web.url, "X-Forwarded-Proto": "https"}
    async with web.session.post(
        f"{web.url}/console/login", data=form, headers=origin, allow_redirects=False
    ) as response:
        assert response.status == 303
        cookie = response.headers["Set-Cookie"].partition(";")[0]
    async with web.session.get(f"{web.url}/console/now/live", headers={"Cookie": cookie}) as stream:
        assert stream.content_type == "text/event-stream"
        assert await stream.content.readany()

        [child] = console_pids()
        os.kill(child, signal.SIGKILL)
        await until(lambda: bool(console_pids() - {child}))
        await web.wait_for_status("/console/login", 200)
    assert (await web.get("/readyz"))[0] == 200

    web.process.kill()
    await web.process.wait()
    await until(lambda: not console_pids())


@pytest.mark.slow
async def test_event_stream_does_not_delay_shutdown(start: Start, redis: Redis) -> None:
    web = await start(CONSOLE_KEY=KEY, TEST_MARK=str(os.getpid()))
    await web.wait_for_status("/console/login", 200)
    link = await Users(redis, SEALS).create_login_link("ada")
    await Users(redis, SEALS).put("ada", [Role.VIEWER])
    origin = {"Origin": web.url}
    async with web.session.post(f"{web.url}/console/login/{link}", headers=origin, allow_redirects=False) as response:
        cookie = response.headers["Set-Cookie"].partition(";")[0]
    async with web.session.get(f"{web.url}/console/now/live", headers={"Cookie": cookie}) as stream:
        await stream.content.readany()
        web.process.terminate()
        assert await asyncio.wait_for(web.process.wait(), DEADLINE_S) == 0
    await until(lambda: not console_pids())


@pytest.mark.slow
async def test_too_large_and_fragmented_bodies_are_answered(start: Start) -> None:
    web = await start(CONSOLE_KEY=KEY, TEST_MARK=str(os.getpid()))
    await web.wait_for_status("/console/login", 200)
    for body, status in ((b"x" * 300_000, 413), (b"x" * 3_000, 403)):
        async with web.session.post(f"{web.url}/console/login", data=body) as response:
            assert response.status == status


@pytest.mark.slow
async def test_cookies_of_one_visitor_are_not_sent_for_another(start: Start) -> None:
    web = await start(
        CONSOLE_KEY=KEY, PUBLIC_URL="http://localhost", HUBSPOT_CLIENT_ID="0c3f6d0c-2e8b-4e57-9c34-7a5e2d10b9f8",
        SECRETS_KEY="3f6d0c2e8b1a4e579c347a5e2d10b9f8",
    )  # fmt: skip
    await web.wait_for_status("/oauth/install", 303)
    browsers = set()
    for _ in range(2):
        web.session.cookie_jar.clear()
        browsers.add((await web.get("/oauth/install"))[2]["Set-Cookie"].partition(";")[0])
    assert len(browsers) == 2
