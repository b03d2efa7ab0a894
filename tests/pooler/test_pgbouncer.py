"""Migration, archiving, reading, verification and retention through pgbouncer, with fewer sessions than clients."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg  # type: ignore[import-untyped]  # ships no types
import pytest
from redis.asyncio import Redis
from sqlalchemy import URL, make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit import retention
from spokes.audit.archiver import Archiver
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine, write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.audit.verification.verify import verify
from spokes.core.settings import Settings
from tests.support.deployment import KEY
from tests.support.events import append_records, record
from tests.support.redis_server import free_port

CONFIG = """
[databases]
audit = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 100
"""


@contextmanager
def pgbouncer(server: URL, folder: Path) -> Iterator[tuple[int, Path]]:
    """Run pgbouncer before a PostgreSQL; yield its port and its log."""
    program = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
    assert program, "pgbouncer is missing: apt-get install pgbouncer, then run this again"
    host = str(server.query.get("host") or server.host)
    values = {"host": host, "port": server.port, "dbname": server.database, "user": server.username}
    target = " ".join(f"{name}={value}" for name, value in values.items() if value)
    port, log = free_port(), folder / "log"
    # pgbouncer refuses to run as root, and only PostgreSQL's own user may enter the folder of its socket.
    user = ["-u", Path(host).owner()] if os.geteuid() == 0 else []
    with tempfile.NamedTemporaryFile("w", suffix=".ini") as config, log.open("wb") as output:
        config.write(CONFIG.format(target=target, port=port))
        config.flush()
        Path(config.name).chmod(0o644)
        process = subprocess.Popen([program, *user, config.name], stdout=output, stderr=output)
        try:
            yield port, log
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
async def pooled_url(database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """DATABASE_URL of a pgbouncer in transaction mode before an empty PostgreSQL database."""
    server = make_url(database_url)
    with pgbouncer(server, tmp_path) as (port, log):
        url = f"postgresql://{quote(server.username or 'postgres')}@127.0.0.1:{port}/audit"
        await wait_until_ready(url, log)
        yield url


async def wait_until_ready(url: str, log: Path) -> None:
    for attempt in range(100):
        try:
            connection = await asyncpg.connect(url, statement_cache_size=0, timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            assert attempt < 99, await asyncio.to_thread(log.read_text)
            await asyncio.sleep(0.1)
        else:
            await connection.close()
            return


@pytest.fixture
async def pooled(pooled_url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(Settings.from_env({"DATABASE_URL": pooled_url}).database_address)
    yield engine
    await engine.dispose()


pytestmark = [
    pytest.mark.parametrize("database_url", ["postgresql"], indirect=True),
    pytest.mark.usefixtures("real_migrations"),
]


async def test_records_are_archived_read_verified_and_purged(pooled: AsyncEngine, redis: Redis) -> None:
    await asyncio.gather(*(schema.upgrade(pooled) for _ in range(3)))
    await append_records(redis, *(record(number) for number in range(2_000)))
    assert await Archiver(redis, pooled, KEY, batch_size=100).drain() == 2_000
    assert len(await fetch(pooled, select(RECORDS.c.seq))) == 2_000
    assert (await verify(pooled, master_key=KEY)).is_intact
    assert await retention.purge(pooled, KEY, before_ms=time.time_ns() // 1_000_000 + 86_400_000) == 2_000


async def test_many_clients_share_few_sessions(pooled_url: str, pooled: AsyncEngine) -> None:
    await schema.upgrade(pooled)

    async def client() -> None:
        engine = open_engine(Settings.from_env({"DATABASE_URL": pooled_url}).database_address)
        for _ in range(20):
            async with write_connection(engine) as connection:
                await connection.execute(select(HEAD.c.seq).with_for_update())
            await fetch(engine, select(HEAD.c.seq, HEAD.c.hash))
        await engine.dispose()

    await asyncio.gather(*(client() for _ in range(10)))


@pytest.mark.usefixtures("redis")
async def test_commands_work_behind_a_pooler(pooled_url: str, environ: dict[str, str], tmp_path: Path) -> None:
    for arguments, code in ((["migrate"], 0), (["migrate"], 0), (["audit", "verify"], 0)):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "spokes", *arguments],
            env={**os.environ, **environ, "DATABASE_URL": pooled_url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
