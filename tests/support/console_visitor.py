"""The console in tests, and somebody at it: a session that is begun directly, forms sent as a browser sends them."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.records import AuditRecord
from spokes.audit.sql.engine import open_engine
from spokes.audit.stream import append
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from spokes.console.app import create_app
from spokes.console.web.app_keys import SESSIONS
from spokes.core.settings import Settings
from tests.support.deployment import KEY as AUDIT_KEY

KEY = "a-key-of-at-least-thirty-two-characters"


@asynccontextmanager
async def console(environ: Mapping[str, str], **given: str) -> AsyncIterator[TestClient]:
    """The console of a deployment over real HTTP."""
    settings = Settings.from_env({**environ, "CONSOLE_KEY": KEY, **given})
    async with TestClient(TestServer(create_app(settings))) as client:
        yield client


@asynccontextmanager
async def store(environ: Mapping[str, str]) -> AsyncIterator[AsyncEngine]:
    """The store that the console of a deployment reads; each kind of store has its tests elsewhere."""
    engine = open_engine(Settings.from_env(environ).database_address)
    yield engine
    await engine.dispose()


def stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is counted fall into one window, however long the test takes."""
    monkeypatch.setattr("spokes.console.accounts.rate_limits.time", SimpleNamespace(time=lambda: 1_795_442_400.0))


@dataclass(frozen=True, slots=True)
class Visitor:
    """Asks for pages and sends forms."""

    client: TestClient
    cookie: str
    csrf: str

    @classmethod
    async def come(cls, client: TestClient, *roles: Role, portals: Iterable[int] | None = None) -> "Visitor":
        sessions = client.server.app[SESSIONS]
        cookie = await sessions.start("ada", roles, portals)
        return cls(client, cookie, sessions.csrf_token(cookie))

    async def get(self, path: str, **params: str) -> tuple[int, str]:
        headers = {"Cookie": f"{COOKIE}={self.cookie}"}
        async with self.client.get(path, params=params, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def post(
        self, path: str, form: Mapping[str, str] | Iterable[tuple[str, str]], **given: str
    ) -> ClientResponse:
        """Send a form; `csrf` and `site` are what a browser on our own page would send, unless given."""
        headers = {"Cookie": f"{COOKIE}={self.cookie}", "Sec-Fetch-Site": given.get("site", "same-origin")}
        pairs = [*(form.items() if isinstance(form, Mapping) else form), ("csrf", given.get("csrf", self.csrf))]
        async with self.client.post(path, data=pairs, headers=headers, allow_redirects=False) as answer:
            await answer.read()
            return answer


async def archive(redis: Redis, engine: AsyncEngine, *told: AuditRecord) -> None:
    """Put records where the console finds them, in a store that is made if need be."""
    pipeline = redis.pipeline()
    for one in told:
        append(pipeline, one)
    await pipeline.execute()
    archiver = Archiver(redis, engine, AUDIT_KEY)
    await archiver.run_once()
    await archiver.drain()


def seen(html: str) -> str:
    """What somebody reads of a page: its text without tags, spaces in one."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))
