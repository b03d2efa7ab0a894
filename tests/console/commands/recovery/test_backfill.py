"""`backfill` and `backfills`, against the simulator; `kill -9` in a process of its own."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from redis.asyncio import Redis

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.core import clock
from spokes.core.redis.keys import IMPORT_QUEUE
from spokes.core.settings import Settings
from spokes.gaps.gap import GapCause, MissedInterval, Proof
from spokes.gaps.ledger import GapLedger
from spokes.simulator.app import Simulator
from spokes.simulator.changes import ChangeSource
from spokes.simulator.clock import Clock
from spokes.simulator.config import Limits, PortalConfig, SimulatorConfig
from tests.support.command_line import CompletedCommand, spokes, start_spokes
from tests.support.deployment import TOKEN

USER = ChangeSource("CRM_UI", "userId:1")
INTERVAL = ("contacts", "--since", "2h", "--until", "5m")
QUICK = {"HUBSPOT_SEARCH_LIMIT": "1000", "HUBSPOT_RATE_LIMIT": "10000"}


class PastClock(Clock):
    """A clock that is an hour behind."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, an hour ago."""
        return super().now_ms() - 3_600_000


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    """A simulator that is an hour behind, so that its changes lie in the past."""
    config = SimulatorConfig(portals=(PortalConfig(token=TOKEN, limits=Limits(search_secondly=1000)),))
    async with Simulator(config, clock=PastClock()) as simulator:
        yield simulator


@pytest.fixture
async def deployed(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> dict[str, str]:
    """The environment of a deployment whose audit store has its tables."""
    values = {**environ, "HUBSPOT_API_URL": hubspot.url}
    engine = open_engine(Settings.from_env(values).database_address)
    await schema.upgrade(engine)
    await engine.dispose()
    return values


def create_contacts(hubspot: Simulator, count: int) -> None:
    type_ = hubspot.crm.types.resolve("contacts")
    for number in range(count):
        hubspot.crm.create(type_, {"email": f"c{number}@example.org", "phone": str(number)}, USER)


async def command(environ: dict[str, str], *arguments: str) -> CompletedCommand:
    return await asyncio.to_thread(spokes, environ, *arguments)


async def test_backfill_admits_what_was_not_delivered_and_closes_the_gap(
    deployed: dict[str, str], hubspot: Simulator, redis: Redis
) -> None:
    create_contacts(hubspot, 20)
    now = clock.now_ms()
    engine = open_engine(Settings.from_env(deployed).database_address)
    ledger = GapLedger.from_settings(Settings.from_env(deployed), engine)
    missed = MissedInterval(
        portal_id=hubspot.portal.config.portal_id, scope="contact", since=now - 5_400_000, until=now - 1_800_000,
        cause=GapCause.NO_WEB_PROCESS,
    )  # fmt: skip
    await ledger.report(missed)
    result = await command(deployed | QUICK, "backfill", *INTERVAL, "--yes", "--json")
    assert result.returncode == 0, result.stderr
    (row,) = map(orjson.loads, result.stdout.splitlines())
    assert (row["state"], row["records"], row["admitted"], row["unproven"]) == ("finished", 20, 60, 0)
    assert "20 contact records changed since then" in result.stderr
    (gap,) = await ledger.list(include_closed=True)
    assert (gap.proof, row["gaps"]) == (Proof.BACKFILL, [gap.id])
    await engine.dispose()
    assert await redis.zcard(IMPORT_QUEUE) > 0


async def test_dry_run_admits_nothing(deployed: dict[str, str], hubspot: Simulator, redis: Redis) -> None:
    create_contacts(hubspot, 3)
    result = await command(deployed, "backfill", *INTERVAL, "--property", "phone", "--dry-run", "--json")
    (row,) = map(orjson.loads, result.stdout.splitlines())
    assert (row["records"], row["reads"], await redis.zcard(IMPORT_QUEUE)) == (3, 1, 0)
    assert (await command(deployed, "backfills", "list", "--all")).stderr == "No backfill was started.\n"


async def test_backfill_asks_before_it_starts(deployed: dict[str, str], redis: Redis) -> None:
    result = await command(deployed, "backfill", *INTERVAL)
    assert (result.returncode, await redis.zcard(IMPORT_QUEUE)) == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("conversations", "--since", "2h"), "No handler registers for an event"),
        (("contacts", "--since", "2h", "--property", "fax"), "No handler registers for changes of 'fax'"),
        (("contacts", "--since", "2h", "--handler", "contacts.none"), "There is no handler 'contacts.none'"),
        (("contacts", "--since", "2h", "--portal", "9"), "There are no credentials for portal 9"),
        (("contacts", "--since", "1h", "--until", "2h"), "ends before it begins"),
        (("contacts", "--since", "soon"), "is not a time"),
    ],
)
async def test_backfill_that_cannot_run_is_refused_in_one_sentence(
    deployed: dict[str, str], arguments: tuple[str, ...], sentence: str
) -> None:
    result = await command(deployed, "backfill", *arguments, "--yes")
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert sentence in " ".join(result.stderr.replace("│", "").split())


async def test_paused_and_cancelled_backfills_are_listed(deployed: dict[str, str]) -> None:
    assert (await command(deployed, "backfills", "pause", "0123abcd")).returncode == 2
    await command(deployed, "backfill", *INTERVAL, "--yes")
    (row,) = map(orjson.loads, (await command(deployed, "backfills", "list", "--all", "--json")).stdout.splitlines())
    refused = await command(deployed, "backfills", "cancel", row["id"])
    assert (refused.returncode, "is finished" in refused.stderr) == (2, True)


@pytest.mark.slow  # reads at two searches a second, to be killed in between
async def test_killed_backfill_continues_and_leaves_nothing_out(
    deployed: dict[str, str], hubspot: Simulator, redis: Redis
) -> None:
    create_contacts(hubspot, 1500)
    process = start_spokes(deployed | {"HUBSPOT_SEARCH_LIMIT": "2"}, "backfill", *INTERVAL, "--yes")
    try:
        async with asyncio.timeout(120):
            while await redis.zcard(IMPORT_QUEUE) < 3:  # noqa: ASYNC110 - another process fills it
                await asyncio.sleep(0.05)
        process.kill()
    finally:
        process.kill()
        await asyncio.to_thread(process.communicate)
    (row,) = map(orjson.loads, (await command(deployed, "backfills", "list", "--json")).stdout.splitlines())
    assert row["state"] == "running"
    result = await command(deployed | QUICK, "backfills", "resume", row["id"], "--json")
    assert result.returncode == 0, result.stderr
    final = orjson.loads(result.stdout)
    assert final["state"] == "finished"
    again = await command(deployed | QUICK, "backfill", *INTERVAL, "--yes", "--json")
    repeated = orjson.loads(again.stdout)
    assert (repeated["state"], repeated["reason"]) == ("finished", ""), again.stderr
    assert (repeated["admitted"], repeated["known"]) == (0, 4500)
