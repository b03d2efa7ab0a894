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
from tests.support.console_visitor import KEY
from tests.support.deployment import ROOT

DEADLINE_S = 40.0  # a process starts in two seconds; the machine may be busy


class Web:
    """A web process with its console, and who asks it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, session: ClientSession) -> None:
        self.process, self.url, self.session = process, url, session

    async def get(self, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        async with self.session.get(self.url + path, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers

    async def until(self, path: str, status: int) -> str:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(OSError):
                    found, text, _ = await self.get(path)
                    if found == status:
                        return text
                await asyncio.sleep(0.1)


Start = Callable[..., Awaitable[Web]]


@pytest.fixture
async def start(environ: dict[str, str], redis: Redis, unused_tcp_port: int) -> AsyncIterator[Start]:
    """Start a web process; it is ended, and its private folder goes with it."""
    assert await redis.ping()
    started: list[asyncio.subprocess.Process] = []
    with tempfile.TemporaryDirectory() as folder:  # a short name, as sockets need
        async with ClientSession(timeout=ClientTimeout(total=DEADLINE_S)) as session:

            async def web(**given: str) -> Web:
                env = {
                    **os.environ,
                    **environ,
                    "HOST": "127.0.0.1",
                    "PORT": str(unused_tcp_port),
                    "TMPDIR": folder,
                    **given,
                }
                process = await asyncio.create_subprocess_exec(sys.executable, "-m", "ingest", cwd=ROOT, env=env)
                started.append(process)
                return Web(process, f"http://127.0.0.1:{unused_tcp_port}", session)

            yield web
            for process in started:
                if process.returncode is None:
                    process.terminate()
                await asyncio.wait_for(process.wait(), DEADLINE_S)


def consoles() -> set[int]:
    """The consoles that run, of whichever web process started them from this test."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if b"serve" in words and b"--with-parent" in words and _of_us(place):
                found.add(int(place.name))
    return found


def _of_us(place: Path) -> bool:
    return f"TEST_MARK={os.getpid()}".encode() in (place / "environ").read_bytes().split(b"\0")


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - of processes nobody tells
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("/console", True),
        ("/console?x=1", True),
        ("/console/now", True),
        ("/api/v1/queue", True),
        ("/consoles", False),
        ("/api", False),
        ("/webhooks/hubspot", False),
        ("/readyz", False),
    ],
)
def test_what_is_the_consoles(path: str, whose: bool) -> None:
    assert is_console_path(path) == whose


async def test_without_a_key_there_is_no_console(start: Start) -> None:
    web = await start()
    await web.until("/healthz", 200)
    assert [(await web.get(path))[0] for path in ("/console", "/console/login", "/api/v1/queue")] == [404] * 3


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_console_is_served_restarted_and_ended_with_the_web_process(
    start: Start, redis: Redis, environ: dict[str, str], processes: str
) -> None:
    web = await start(CONSOLE_KEY=KEY, WEB_CONCURRENCY=processes, TEST_MARK=str(os.getpid()))
    await web.until("/console/login", 200)
    assert len(consoles()) == 1

    status, _, headers = await web.get("/api/v1/queue")
    assert (status, headers["Content-Type"], headers["WWW-Authenticate"]) == (
        401,
        "application/problem+json",
        "Bearer",
    )
    token = (
        ApiTokens.from_settings(Settings.from_env({**environ, "CONSOLE_KEY": KEY})).mint("robot", [Role.VIEWER]).token
    )
    status, told, _ = await web.get("/api/v1/queue", Authorization=f"Bearer {token}")
    assert (status, '"due":0' in told) == (200, True)

    # A login through both processes: form, cookie, a stream of events.
    await Users(redis).put("ada", [Role.VIEWER], None, "correct horse battery")
    form = {"name": "ada", "password": "correct horse battery"}
    here = {"Origin": web.url}
    async with web.session.post(f"{web.url}/console/login", data=form, headers=here, allow_redirects=False) as answer:
        assert answer.status == 303
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    async with web.session.get(f"{web.url}/console/now/live", headers={"Cookie": cookie}) as stream:
        assert stream.content_type == "text/event-stream"
        assert await stream.content.readany()

        [child] = consoles()
        os.kill(child, signal.SIGKILL)
        await wait_for(lambda: bool(consoles() - {child}))
        await web.until("/console/login", 200)
    assert (await web.get("/readyz"))[0] == 200

    web.process.kill()
    await web.process.wait()
    await wait_for(lambda: not consoles())


async def test_stream_does_not_hold_up_the_end(start: Start, redis: Redis) -> None:
    web = await start(CONSOLE_KEY=KEY, TEST_MARK=str(os.getpid()))
    await web.until("/console/login", 200)
    word = await Users(redis).create_login_link("ada")
    await Users(redis).put("ada", [Role.VIEWER])
    here = {"Origin": web.url}
    async with web.session.post(f"{web.url}/console/login/{word}", headers=here, allow_redirects=False) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    async with web.session.get(f"{web.url}/console/now/live", headers={"Cookie": cookie}) as stream:
        await stream.content.readany()
        web.process.terminate()
        assert await asyncio.wait_for(web.process.wait(), DEADLINE_S) == 0
    await wait_for(lambda: not consoles())


async def test_body_too_large_and_a_body_in_parts_are_answered(start: Start) -> None:
    web = await start(CONSOLE_KEY=KEY, TEST_MARK=str(os.getpid()))
    await web.until("/console/login", 200)
    for body, status in ((b"x" * 300_000, 413), (b"x" * 3_000, 403)):
        async with web.session.post(f"{web.url}/console/login", data=body) as answer:
            assert answer.status == status
