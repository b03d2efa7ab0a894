"""`gaps list|show|close`."""

from collections.abc import AsyncIterator

import orjson
import pytest

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.core.settings import Settings
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.ledger import GapLedger
from tests.support.command_line import spokes

DOWN = MissedInterval(since=1_795_000_000_000, until=1_795_090_000_000, cause=GapCause.NO_WEB_PROCESS)


@pytest.fixture
async def ledger(environ: dict[str, str]) -> AsyncIterator[GapLedger]:
    settings = Settings.from_env(environ)
    engine = open_engine(settings.database_address)
    await schema.upgrade(engine)
    yield GapLedger.from_settings(settings, engine)
    await engine.dispose()


async def test_list_shows_open_gaps_and_exits_with_1(environ: dict[str, str], ledger: GapLedger) -> None:
    assert spokes(environ, "gaps", "list").stderr == "No gap is open.\n"
    await ledger.report(DOWN, portals=[7], scopes=["contact"])
    result = spokes(environ, "gaps", "list")
    assert result.returncode == 1
    assert "no_web_process" in result.stdout
    assert spokes(environ, "gaps", "list", "--portal", "8").returncode == 0


async def test_gap_is_shown_and_closed_with_a_reason(environ: dict[str, str], ledger: GapLedger) -> None:
    await ledger.report(DOWN, portals=[7], scopes=["contact"])
    (gap,) = await ledger.list()
    assert orjson.loads(spokes(environ, "gaps", "show", gap.id, "--json").stdout)["causes"] == ["no_web_process"]
    refused = spokes(environ, "gaps", "close", gap.id)
    assert (refused.returncode, "needs a reason" in refused.stderr) == (2, True)
    closed = spokes(environ, "gaps", "close", gap.id, "--reason", "a test portal")
    assert (closed.returncode, closed.stdout) == (0, f"Gap {gap.id} is closed.\n")
    (row,) = map(orjson.loads, spokes(environ, "gaps", "list", "--all", "--json").stdout.splitlines())
    assert (row["proof"], row["reason"]) == ("operator", "a test portal")


async def test_unknown_gap_is_one_sentence(environ: dict[str, str], ledger: GapLedger) -> None:
    result = spokes(environ, "gaps", "show", "0123abcd")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "There is no gap '0123abcd'" in result.stderr
