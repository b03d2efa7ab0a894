"""The parts of the chaos harness for portals with OAuth: checks at the end, Sentry, the search for secrets."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import aiohttp
import pytest

from chaos.oauth.leaked_secrets import leaked_secrets
from chaos.oauth.portals import PORTALS, REMOVING, OAuthPortals, wrongly_marked
from chaos.oauth.sentry_sink import SentrySink
from chaos.proxy import Proxy
from spokes.simulator.api.request_log import LoggedCall
from spokes.simulator.app import Simulator
from spokes.simulator.config import SimulatorConfig
from spokes.simulator.errors import JsonObject

TOKEN = f"access-{7:064x}"
FIRST_ID = "318845000001"  # of a record of the first portal


@pytest.fixture
async def portals() -> AsyncIterator[OAuthPortals]:
    """Portals that have the app, with edits of a moment."""
    async with Simulator(SimulatorConfig()) as sim:
        portals = OAuthPortals(sim, Random(1), "https://hooks.example.com", Proxy(lambda: 1))
        for portal_id in PORTALS:
            sim.add_portal(portal_id)
            sim.installs.install(portal_id, frozenset())
        edits = asyncio.create_task(portals.run(asyncio.Event()))
        async with asyncio.timeout(20):
            while not all(portals.phones.values()):  # noqa: ASYNC110 - it notifies nobody
                await asyncio.sleep(0.01)
        edits.cancel()
        yield portals


def record(portal_id: int, **fields: object) -> JsonObject:
    return {"portal_id": portal_id, "state": "installed", "reason": "", "changed_at": 1, "installed_at": 1, **fields}


def installed(**changed: object) -> list[JsonObject]:
    """Return the portals as `spokes portals list --json` prints them, the first one with other values."""
    return [record(PORTALS[0]) | changed, *map(record, PORTALS[1:])]


def test_installed_portals_are_not_marked() -> None:
    assert list(wrongly_marked([*installed(), record(1, state="needs_reinstall")])) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"state": "needs_reinstall", "reason": "bad_hub"}, f"portal {PORTALS[0]} is needs_reinstall (bad_hub)"),
        ({"changed_at": 2}, f"portal {PORTALS[0]} was marked"),
        ({"portal_id": 1}, f"portal {PORTALS[0]} is unknown"),
    ],
)
def test_portal_that_was_marked_without_a_reason_is_found(changed: JsonObject, sentence: str) -> None:
    assert list(wrongly_marked(installed(**changed))) == [sentence]


def test_portal_that_removed_the_app_may_have_been_marked() -> None:
    others = [record(portal_id) for portal_id in PORTALS if portal_id != REMOVING]
    assert list(wrongly_marked([*others, record(REMOVING, changed_at=2)])) == []


@pytest.mark.parametrize(
    ("caller", "object_id", "is_foreign"),
    [
        (PORTALS[0], f"{PORTALS[0]}00001", False),
        (PORTALS[0], f"{PORTALS[1]}00001", True),
        (PORTALS[0], FIRST_ID, True),
        (SimulatorConfig().portals[0].portal_id, FIRST_ID, False),
        (SimulatorConfig().portals[0].portal_id, f"{PORTALS[1]}00001", True),
        (None, FIRST_ID, False),
    ],
)
async def test_call_with_the_token_of_another_portal_is_found(
    portals: OAuthPortals, caller: int | None, object_id: str, is_foreign: bool
) -> None:
    portals.sim.requests.add(LoggedCall(1, "POST", "/crm", portal_id=caller, object_ids=[object_id]))
    assert bool(list(portals.foreign_calls())) is is_foreign


async def test_phone_that_no_handler_has_written_is_found(portals: OAuthPortals) -> None:
    wrong = set(portals.wrong_phones())
    (contact,) = portals.sim.portals[PORTALS[0]].crm.records(
        portals.sim.portals[PORTALS[0]].crm.types.resolve("contacts")
    )
    assert contact.id in wrong
    portals.phones[PORTALS[0]][contact.id] = contact.properties["phone"]
    assert contact.id not in set(portals.wrong_phones())


async def test_edit_without_the_app_expects_no_phone(portals: OAuthPortals) -> None:
    portals.sim.installs.uninstall(REMOVING)
    portals.phones[REMOVING].clear()
    stop = asyncio.Event()
    edits = asyncio.create_task(portals.run(stop))
    await asyncio.sleep(0)
    stop.set()
    await edits
    assert portals.phones[REMOVING] == {}


async def test_install_is_tried_until_it_gives_up(portals: OAuthPortals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.oauth.portals._GIVE_UP_S", 0.1)
    await portals.install(PORTALS[0])  # nothing listens


async def test_sentry_keeps_each_envelope_as_text(tmp_path: Path) -> None:
    async with SentrySink(tmp_path / "sentry.envelopes") as sink, aiohttp.ClientSession() as session:
        address = sink.dsn.replace("chaos@", "").removesuffix("1") + "api/1/envelope/"
        for body, headers in ((b"plain", {}), (gzip.compress(b"packed"), {"Content-Encoding": "gzip"})):
            async with session.post(address, data=body, headers=headers) as response:
                assert response.status == 200
    assert (sink.count, sink.file.read_bytes()) == (2, b"plain\npacked\n")


@pytest.mark.parametrize("name", ["web.log", "audit.jsonl", "valkey on 1/a/b.aof", "sentry.envelopes", "sql.dump"])
@pytest.mark.parametrize("text", [TOKEN, f"code-{7:064x}", "the client's secret"])
def test_secret_is_found_wherever_it_leaks(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'{{"event": "x", "text": "{text}"}}')
    (found,) = leaked_secrets(tmp_path, ["the client's secret"])
    assert found.endswith(f" in {name}")
    assert text not in found


def test_what_the_simulator_writes_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").write_text(TOKEN)
    (tmp_path / "worker 1.log").write_text("access-7 and a sealed gAAAAA")
    assert list(leaked_secrets(tmp_path, ["the client's secret"])) == []
