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
from typer import BadParameter

from spokes.audit.archiver import Archiver
from spokes.audit.object_hashes import object_hash, object_hash_key
from spokes.audit.sql.engine import write_connection
from spokes.audit.stream import append
from spokes.console.record_filters import parse_time
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


def test_migrate_says_what_it_did(database_url: str) -> None:
    said = [spokes({"AUDIT_KEY": KEY, "DATABASE_URL": database_url}, "migrate").stdout for _ in range(2)]
    assert said == [
        "The audit store is new: its tables were created, revision 0002.\n",
        "The audit store is up to date, revision 0002.\n",
    ]


def test_export_writes_one_object_a_line_with_every_field(store: str) -> None:
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


async def test_verify_tells_a_broken_chain_by_its_exit_code(store: str, engine: AsyncEngine) -> None:
    intact = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "verify")
    async with write_connection(engine) as connection:
        await connection.execute(text("UPDATE audit_records SET outcome = 'processed' WHERE seq = 2"))
    broken = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "verify", "--json")
    verdict = orjson.loads(broken.stdout)
    assert (intact.returncode, intact.stdout[:33]) == (0, "The chain is intact: 3 records, l")
    assert (broken.returncode, verdict["seq"], verdict["tampering"]) == (1, 2, "changed")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
class TestOnSQLite:
    """What does not depend on the kind of database."""

    def test_query_shows_a_table_of_the_newest_first(self, store: str) -> None:
        shown = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "query").stdout
        assert shown.index("318845120003") < shown.index("318845120002") < shown.index("318845120001")
        assert "[red]r" in shown

    def test_csv_has_a_header_and_the_filtered_records(self, store: str, tmp_path: Path) -> None:
        file = tmp_path / "out.csv"
        arguments = ("--format", "csv", "--output", str(file), "--outcome", "dead", "--since", "1795442500000")
        spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "export", *arguments)
        [row] = csv.DictReader(io.StringIO(file.read_text()))
        assert (row["seq"], row["outcome"], row["attempt"], row["correlation_id"]) == ("2", "dead", "8", "")

    def test_closed_pipe_is_no_traceback(self, store: str) -> None:
        command = f"{sys.executable} -m spokes audit export | true"
        environ = {"DATABASE_URL": store}
        said = subprocess.run(command, shell=True, env=environ, capture_output=True, check=False)  # noqa: S602 - a pipe
        assert said.stderr == b""

    def test_store_without_tables_is_a_sentence(self, database_url: str) -> None:
        said = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": database_url}, "audit", "query")
        assert (said.returncode, said.stderr) == (
            2,
            "The audit store has no tables yet: run `python -m spokes migrate`.\n",
        )


def test_store_that_does_not_answer_is_a_sentence() -> None:
    said = spokes(
        {"AUDIT_KEY": KEY, "DATABASE_URL": "postgres://u:geheim@127.0.0.1:1/d?sslmode=require"}, "audit", "verify"
    )
    expected = "The audit store does not answer (ConnectionRefusedError). DATABASE_URL says where it is.\n"
    assert (said.returncode, said.stderr) == (2, expected)


def test_wrong_setting_is_a_sentence() -> None:
    said = spokes({"AUDIT_KEY": KEY, "PORT": "many"}, "migrate")
    assert (said.returncode, said.stderr.startswith("PORT "), "Traceback" in said.stderr) == (2, True, False)


def test_help_loads_no_command() -> None:
    program = "import sys; from spokes.console.cli import app; app(['--help'], standalone_mode=False)"
    check = f"{program}; sys.exit(any(name in sys.modules for name in ('sqlalchemy', 'spokes.core.settings', 'redis')))"
    said = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert (said.returncode, "migrate" in said.stdout, "audit" in said.stdout) == (0, True, True)


@pytest.mark.parametrize(
    ("spelled", "epoch_ms"),
    [
        ("1795442500001", 1795442500001),
        ("2026-11-23", 1795392000000),
        ("2026-11-23T14:00", 1795442400000),
        ("2026-11-23T15:00+01:00", 1795442400000),
        ("2h", 1795442400000 - 7_200_000),
        ("7d", 1795442400000 - 604_800_000),
    ],
)
def test_time_is_read_as_people_spell_it(spelled: str, epoch_ms: int) -> None:
    assert epoch_ms == parse_time(spelled, now_ms=1795442400000)


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(BadParameter):
        parse_time("yesterday")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_kept_checkpoint_is_verified_against(store: str, engine: AsyncEngine, tmp_path: Path) -> None:
    """As text and in a file; a tail that was cut off fails."""
    kept = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "checkpoint").stdout
    file = tmp_path / "checkpoints.txt"
    file.write_text(kept)
    intact = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "verify", "--checkpoint", kept.strip())
    async with write_connection(engine) as connection:
        await connection.execute(text("DELETE FROM audit_records WHERE seq = 3"))
        await connection.execute(text("DELETE FROM audit_checkpoints"))
        end = "UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_records WHERE seq = 2)"
        await connection.execute(text(end))
    cut = spokes({"AUDIT_KEY": KEY, "DATABASE_URL": store}, "audit", "verify", "--checkpoint", str(file))
    assert (kept.startswith("spokes-audit-1:checkpoint:3:"), intact.returncode, cut.returncode) == (True, 0, 1)
