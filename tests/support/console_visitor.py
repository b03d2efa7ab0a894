"""A running console for tests, and a signed-in visitor who sends requests and forms as a browser does."""

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
from spokes.console.accounts.seals import Seals
from spokes.console.accounts.sessions import COOKIE
from spokes.console.app import create_app
from spokes.console.web.app_keys import SESSIONS
from spokes.core.settings import Settings
from tests.support.deployment import KEY as AUDIT_KEY

KEY = "a-key-of-at-least-thirty-two-characters"
SEALS = Seals(KEY)
HOSTILE_HTML = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@asynccontextmanager
async def running_console(environ: Mapping[str, str], **overrides: str) -> AsyncIterator[TestClient]:
    """Run the console over real HTTP; `overrides` are further settings."""
    settings = Settings.from_env({**environ, "CONSOLE_KEY": KEY, **overrides})
    async with TestClient(TestServer(create_app(settings))) as client:
        yield client


@asynccontextmanager
async def audit_store(environ: Mapping[str, str]) -> AsyncIterator[AsyncEngine]:
    """Open the store that the console of these settings reads (SQLite; both databases are tested elsewhere)."""
    engine = open_engine(Settings.from_env(environ).database_address)
    yield engine
    await engine.dispose()


def freeze_rate_limit_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock of the rate limits, so that a slow test stays within one window."""
    monkeypatch.setattr("spokes.console.accounts.rate_limits.time", SimpleNamespace(time=lambda: 1_795_442_400.0))


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser with a session: requests pages and sends forms."""

    client: TestClient
    cookie: str
    csrf: str

    @classmethod
    async def signed_in(cls, client: TestClient, *roles: Role, portals: Iterable[int] | None = None) -> "Visitor":
        sessions = client.server.app[SESSIONS]
        cookie = await sessions.start("ada", roles, portals)
        return cls(client, cookie, sessions.csrf_token(cookie))

    async def get(self, path: str, **params: str) -> tuple[int, str]:
        headers = {"Cookie": f"{COOKIE}={self.cookie}"}
        async with self.client.get(path, params=params, headers=headers, allow_redirects=False) as response:
            return response.status, await response.text()

    async def post(
        self, path: str, form: Mapping[str, str] | Iterable[tuple[str, str]], **overrides: str
    ) -> ClientResponse:
        """Send a form; `csrf` and `site` override what a browser on our own page sends."""
        headers = {"Cookie": f"{COOKIE}={self.cookie}", "Sec-Fetch-Site": overrides.get("site", "same-origin")}
        pairs = [*(form.items() if isinstance(form, Mapping) else form), ("csrf", overrides.get("csrf", self.csrf))]
        async with self.client.post(path, data=pairs, headers=headers, allow_redirects=False) as response:
            await response.read()
            return response


async def archive(redis: Redis, engine: AsyncEngine, *records: AuditRecord) -> None:
    """Archive records in the store; create its tables if they are missing."""
    pipeline = redis.pipeline()
    for record in records:
        append(pipeline, record)
    await pipeline.execute()
    archiver = Archiver(redis, engine, AUDIT_KEY)
    await archiver.run_once()
    await archiver.drain()


def visible_text(html: str) -> str:
    """Return the text of a page without tags, with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))
