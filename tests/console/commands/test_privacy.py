"""`privacy export|erase|list`, against the simulator."""

import asyncio
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from tests.support.command_line import spokes

EMAIL = "ada@example.com"


@pytest.fixture
async def contact_id(redis: Redis, hubspot: Simulator, environ: dict[str, str]) -> str:
    """Id of a contact in the simulator; the audit store is migrated."""
    environ["HUBSPOT_API_URL"] = hubspot.url
    await asyncio.to_thread(spokes, environ, "migrate")
    return hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"email": EMAIL}, USER).id


async def test_erase_reports_each_step_and_leaves_no_open_request(environ: dict[str, str], contact_id: str) -> None:
    done = await asyncio.to_thread(spokes, environ, "privacy", "erase", EMAIL, "--yes")
    listed = await asyncio.to_thread(spokes, environ, "privacy", "list", "--all", "--json")
    assert (done.returncode, [line.partition(":")[0] for line in done.stderr.splitlines()]) == (
        0,
        ["hubspot", "redis", "audit", "files"],
    )
    [request] = [orjson.loads(line) for line in listed.stdout.splitlines()]
    assert (request["state"], request["object_ids"], contact_id in listed.stdout) == ("done", None, False)


async def test_erase_asks_for_confirmation(environ: dict[str, str], contact_id: str, hubspot: Simulator) -> None:
    done = await asyncio.to_thread(spokes, environ, "privacy", "erase", contact_id)  # standard input is empty
    assert (done.returncode != 0, contact_id in done.stderr) == (True, True)
    assert hubspot.requests.find(path="*/gdpr-delete") == []


async def test_export_is_one_document_readable_by_its_owner_only(
    environ: dict[str, str], contact_id: str, tmp_path: Path
) -> None:
    file = tmp_path / "ada.json"
    await asyncio.to_thread(spokes, environ, "privacy", "export", EMAIL, "--output", str(file))
    document = orjson.loads(file.read_bytes())
    assert document["hubspot"]["contact"]["properties"]["email"] == EMAIL
    assert file.stat().st_mode & 0o077 == 0


async def test_unknown_address_is_one_sentence(environ: dict[str, str], contact_id: str) -> None:
    done = await asyncio.to_thread(spokes, environ, "privacy", "export", "nobody@example.com")
    assert (done.returncode, "Traceback" in done.stderr, bool(done.stderr.strip())) == (2, False, True)
