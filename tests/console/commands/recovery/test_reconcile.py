"""`gaps reconcile`, against the simulator."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import orjson
import pytest
from redis.asyncio import Redis

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.backfill.reconciliation import DAY_MS, newest_settled_day
from spokes.core import clock
from spokes.core.settings import Settings
from spokes.simulator.app import Simulator
from tests.support.command_line import CompletedCommand, spokes
from tests.support.hubspot.yesterday import create_contacts, hubspot_of_yesterday

QUICK = {"HUBSPOT_SEARCH_LIMIT": "1000", "HUBSPOT_RATE_LIMIT": "10000"}


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    async with hubspot_of_yesterday() as simulator:
        yield simulator


@pytest.fixture
async def deployed(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> dict[str, str]:
    """The environment of a deployment whose audit store has its tables."""
    values = {**environ, **QUICK, "HUBSPOT_API_URL": hubspot.url}
    engine = open_engine(Settings.from_env(values).database_address)
    await schema.upgrade(engine)
    await engine.dispose()
    return values


async def command(environ: dict[str, str], *arguments: str) -> CompletedCommand:
    return await asyncio.to_thread(spokes, environ, *arguments)


def date(day: int) -> str:
    return datetime.fromtimestamp(day / 1000, UTC).date().isoformat()


@pytest.mark.slow  # the walk waits 30 s for HubSpot's index
async def test_difference_is_printed_becomes_a_gap_and_ends_with_the_backfill(
    deployed: dict[str, str], hubspot: Simulator
) -> None:
    records = create_contacts(hubspot, 3)
    result = await command(deployed, "gaps", "reconcile", "--json")
    rows = [orjson.loads(line) for line in result.stdout.splitlines()]
    (contacts,) = [row for row in rows if row["object_type"] == "contact"]
    assert (result.returncode, contacts["records"], contacts["missing"]) == (1, 3, contacts["events"]), result.stderr
    assert not any(record.id in result.stdout for record in records)
    gaps = await command(deployed, "gaps", "list", "--json")
    (gap,) = map(orjson.loads, gaps.stdout.splitlines())
    assert (gap["scope"], gap["causes"]) == ("contact", ["not_received"])
    await command(deployed, "backfill", "contacts", "--since", date(newest_settled_day(clock.now_ms()).since), "--yes")
    assert (await command(deployed, "gaps", "list")).returncode == 0
    assert (await command(deployed, "gaps", "reconcile")).returncode == 0


async def test_day_without_changes_has_no_difference(deployed: dict[str, str], hubspot: Simulator) -> None:
    create_contacts(hubspot, 2)
    day = date(newest_settled_day(clock.now_ms()).since - 3 * DAY_MS)
    result = await command(deployed, "gaps", "reconcile", "--day", day)
    assert (result.returncode, "contact" in result.stdout) == (0, True), result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--day", "5m"), "can be compared from"),
        (("--day", "2020-01-01"), "The audit no longer has the records of that day"),
        (("--day", "soon"), "is not a time"),
        (("--portal", "9"), "There are no credentials for portal 9"),
    ],
)
async def test_comparison_that_cannot_be_made_is_refused_in_one_sentence(
    deployed: dict[str, str], arguments: tuple[str, ...], sentence: str
) -> None:
    result = await command(deployed, "gaps", "reconcile", *arguments)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert sentence in " ".join(result.stderr.replace("│", "").split())
