"""`audit query|export|verify|checkpoint`, against both kinds of database."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.object_hashes import object_hash, object_hash_key
from spokes.audit.sql.engine import write_connection
from spokes.audit.stream import append
from tests.support.command_line import spokes
from tests.support.deployment import KEY
from tests.support.events import record


@pytest.fixture
async def store(redis: Redis, engine: AsyncEngine, database_url: str) -> str:
    """DATABASE_URL of a store with three records."""
    pipeline = redis.pipeline()
    append(pipeline, record(1, reason="[red]r", detail={"property": "phone"}))
    append(pipeline, record(2, outcome="dead", attempt=8))
    append(pipeline, record(3))
    await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()
    return database_url


def test_export_writes_every_field_as_one_object_per_line(store: str) -> None:
    lines = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "export").stdout.splitlines()
    first = orjson.loads(lines[0])
    assert len(lines) == 3
    assert {name: value for name, value in first.items() if name != "hash"} == {
        "seq": 1,
        "id": "0000000000000000000001",
        "at": 1795442500001,
        "action": "event",
        "outcome": "processed",
        "reason": "[red]r",
        "attempt": 0,
        "delivery_id": "50112233-0-0123456789",
        "event_key": "00000000000000000000000000000001",
        "event_id": 1000001,
        "portal_id": 50112233,
        "app_id": 7788990,
        "subscription_type": "contact.creation",
        "object_type": "contact",
        "object_id": "318845120001",
        "occurred_at": 1795442400001,
        "handler": "contacts.on_creation",
        "actor": "spokes",
        "correlation_id": None,
        "detail": {"property": "phone"},
        "object_hash": object_hash(object_hash_key(KEY), 50112233, "contact", "318845120001"),
    }


async def test_broken_chain_is_exit_code_1(store: str, engine: AsyncEngine) -> None:
    intact = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "verify")
    async with write_connection(engine) as connection:
        await connection.execute(text("UPDATE audit_records SET outcome = 'processed' WHERE seq = 2"))
    broken = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "verify", "--json")
    result = orjson.loads(broken.stdout)
    assert (intact.returncode, intact.stdout[:33]) == (0, "The chain is intact: 3 records, l")
    assert (broken.returncode, result["seq"], result["tampering"]) == (1, 2, "changed")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
class TestOnSQLite:
    """Behaviour that is the same on both kinds of database."""

    def test_query_shows_a_table_newest_first(self, store: str) -> None:
        shown = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "query").stdout
        assert shown.index("318845120003") < shown.index("318845120002") < shown.index("318845120001")
        assert "[red]r" in shown

    def test_csv_has_a_header_and_the_filtered_records(self, store: str, tmp_path: Path) -> None:
        file = tmp_path / "out.csv"
        arguments = ("--format", "csv", "--output", str(file), "--outcome", "dead", "--since", "1795442500000")
        spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "export", *arguments)
        [row] = csv.DictReader(io.StringIO(file.read_text()))
        assert (row["seq"], row["outcome"], row["attempt"], row["correlation_id"]) == ("2", "dead", "8", "")

    def test_closed_pipe_prints_no_traceback(self, store: str) -> None:
        command = f"{sys.executable} -m spokes audit export | true"
        environ = {"DATABASE_URL": store}
        done = subprocess.run(command, shell=True, env=environ, capture_output=True, check=False)  # noqa: S602 - a pipe
        assert done.stderr == b""

    def test_store_without_tables_is_one_sentence(self, database_url: str) -> None:
        done = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": database_url}, "audit", "query")
        assert (done.returncode, done.stderr) == (
            2,
            "The audit store has no tables yet: run `python -m spokes migrate`.\n",
        )


def test_unreachable_store_is_one_sentence() -> None:
    done = spokes(
        {"AUDIT_KEY": KEY, "DATABASE_URL": "postgres://u:geheim@127.0.0.1:1/d?sslmode=require"}, "audit", "verify"
    )
    expected = (
        "The audit store does not answer (ConnectionRefusedError): no server listens at the address in DATABASE_URL. "
        "Start it, or correct the address.\n"
    )
    assert (done.returncode, done.stderr) == (2, expected)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_chain_is_compared_with_a_checkpoint_kept_elsewhere(
    store: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    """As text and in a file; a chain whose end was cut off fails."""
    checkpoint = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "checkpoint").stdout
    file = tmp_path / "checkpoints.txt"
    file.write_text(checkpoint)
    intact = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "verify", "--checkpoint", checkpoint.strip())
    async with write_connection(engine) as connection:
        await connection.execute(text("DELETE FROM audit_records WHERE seq = 3"))
        await connection.execute(text("DELETE FROM audit_checkpoints"))
        end = "UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_records WHERE seq = 2)"
        await connection.execute(text(end))
    cut = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "verify", "--checkpoint", str(file))
    assert (checkpoint.startswith("spokes-audit-1:checkpoint:3:"), intact.returncode, cut.returncode) == (True, 0, 1)
