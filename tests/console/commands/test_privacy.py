"""`privacy` as an operator runs it, against the simulator."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import PortalConfig, SimulatorConfig
from tests.support.command_line import spokes
from tests.support.deployment import TOKEN

EMAIL = "ada@example.com"


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))) as simulator:
        yield simulator


@pytest.fixture
async def contact_id(redis: Redis, hubspot: Simulator, environ: dict[str, str]) -> str:
    """A contact, in a house whose tables are there."""
    environ["HUBSPOT_API_URL"] = hubspot.url
    await asyncio.to_thread(spokes, environ, "migrate")
    return hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"email": EMAIL}, USER).id


async def test_erase_reports_each_step_and_leaves_no_open_request(environ: dict[str, str], contact_id: str) -> None:
    done = await asyncio.to_thread(spokes, environ, "privacy", "erase", EMAIL, "--yes")
    listed = await asyncio.to_thread(spokes, environ, "privacy", "list", "--all", "--json")
    assert (done.returncode, [line.partition(":")[0] for line in done.stderr.splitlines()]) == (
        0,
        ["hubspot", "redis", "audit"],
    )
    [request] = [orjson.loads(line) for line in listed.stdout.splitlines()]
    assert (request["state"], request["object_ids"], contact_id in listed.stdout) == ("done", None, False)


async def test_erase_asks_first(environ: dict[str, str], contact_id: str, hubspot: Simulator) -> None:
    asked = await asyncio.to_thread(spokes, environ, "privacy", "erase", contact_id)  # nobody answers
    assert (asked.returncode != 0, contact_id in asked.stderr) == (True, True)
    assert hubspot.requests.find(path="*/gdpr-delete") == []


async def test_export_is_one_document_for_its_owner_alone(
    environ: dict[str, str], contact_id: str, tmp_path: Path
) -> None:
    file = tmp_path / "ada.json"
    await asyncio.to_thread(spokes, environ, "privacy", "export", EMAIL, "--output", str(file))
    document = orjson.loads(file.read_bytes())
    assert document["hubspot"]["contact"]["properties"]["email"] == EMAIL
    assert file.stat().st_mode & 0o077 == 0


async def test_unknown_address_is_a_sentence(environ: dict[str, str], contact_id: str) -> None:
    said = await asyncio.to_thread(spokes, environ, "privacy", "export", "nobody@example.com")
    assert (said.returncode, "Traceback" in said.stderr, bool(said.stderr.strip())) == (2, False, True)
