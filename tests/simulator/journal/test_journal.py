"""The simulator's webhooks journal, over HTTP."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest

from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, ChangeSource
from spokes.simulator.clock import ManualClock
from spokes.simulator.config import JournalConfig, SimulatorConfig

CONFIG = SimulatorConfig(journal=JournalConfig(max_entries=3, linger_s=0.0))
ROOT = "/webhooks-journal/journal/2026-09"
APP = {"client_id": CONFIG.oauth.client_id, "client_secret": CONFIG.client_secret}
SCOPE = "developer.webhooks_journal.read"


class Reader:
    """An app that reads the journal of one simulator."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self._session = session
        self.token = ""

    async def log_in(self, scope: str = SCOPE) -> dict[str, Any]:
        form = {**APP, "grant_type": "client_credentials", "scope": scope}
        async with self._session.post(self.sim.url + "/oauth/2026-09/token", data=form) as response:
            body = await response.json()
        self.token = str(body.get("access_token"))
        return dict(body)

    async def call(self, path: str, json: object = None) -> tuple[int, Any]:
        method = "GET" if json is None else "POST"
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self._session.request(method, self.sim.url + path, headers=headers, json=json) as response:
            return response.status, await response.json() if response.status != HTTPStatus.NO_CONTENT else None

    async def file(self, location: dict[str, Any], **headers: str) -> tuple[int, Any]:
        async with self._session.get(location["url"], headers=headers) as response:
            return response.status, await response.json()

    async def entries(self) -> list[dict[str, Any]]:
        """Read the whole journal, page by page."""
        entries: list[dict[str, Any]] = []
        status, location = await self.call(f"{ROOT}/earliest")
        while status == HTTPStatus.OK:
            _, page = await self.file(location)
            assert page["offset"] == location["currentOffset"]
            entries += page["journalEvents"]
            status, location = await self.call(f"{ROOT}/offset/{location['currentOffset']}/next")
        return entries


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def reader(clock: ManualClock) -> AsyncIterator[Reader]:
    async with Simulator(CONFIG, clock=clock) as sim, aiohttp.ClientSession() as session:
        reader = Reader(sim, session)
        await reader.log_in()
        yield reader


def create(sim: Simulator, number: int = 1) -> Any:
    return sim.crm.create(sim.crm.types.resolve("contacts"), {"email": f"a{number}@example.com"}, USER)


async def test_token_by_client_credentials_has_no_refresh_token(reader: Reader) -> None:
    body = await reader.log_in()
    assert (body["expires_in"], body["token_use"], "refresh_token" in body) == (1800, "client_credentials", False)


async def test_wrong_client_gets_no_token(reader: Reader) -> None:
    form = {**APP, "client_id": "x", "grant_type": "client_credentials", "scope": SCOPE}
    async with aiohttp.ClientSession() as session:
        response = await session.post(reader.sim.url + "/oauth/2026-09/token", data=form)
        assert (response.status, (await response.json())["status"]) == (400, "BAD_CLIENT_ID")


async def test_read_needs_a_live_token_with_the_scope(reader: Reader, clock: ManualClock) -> None:
    await reader.log_in("developer.webhooks_journal.snapshots.read")
    assert (await reader.call(f"{ROOT}/earliest"))[0] == HTTPStatus.FORBIDDEN
    await reader.log_in()
    clock.advance(1800)
    assert (await reader.call(f"{ROOT}/earliest"))[0] == HTTPStatus.UNAUTHORIZED


async def test_journal_token_reads_no_records(reader: Reader) -> None:
    assert (await reader.call("/crm/v3/objects/contacts"))[0] == HTTPStatus.UNAUTHORIZED


async def test_empty_journal_has_no_content(reader: Reader) -> None:
    paths = ("/earliest", "/latest", "/batch/earliest/5")
    assert [(await reader.call(ROOT + path))[0] for path in paths] == [HTTPStatus.NO_CONTENT] * 3


async def test_pages_follow_in_the_order_of_changes(reader: Reader) -> None:
    for number in range(7):
        create(reader.sim, number)
    entries = await reader.entries()
    assert [entry["action"] for entry in entries] == ["CREATE"] * 7
    assert len(reader.sim.journal.store.pages()) == 3


async def test_properties_of_one_update_share_an_entry(reader: Reader) -> None:
    reader.sim.crm.update(create(reader.sim), {"firstname": "Ann", "phone": "1"}, USER)
    (_, update) = await reader.entries()
    assert (update["action"], update["propertyChanges"]) == ("UPDATE", {"firstname": "Ann", "phone": "1"})


async def test_merge_names_the_merged_records(reader: Reader) -> None:
    first, second = create(reader.sim, 1), create(reader.sim, 2)
    survivor = reader.sim.crm.merge(first, second, USER)
    (*_, merge) = await reader.entries()
    assert (merge["objectId"], merge["mergedObjectIds"]) == (int(survivor.id), [int(first.id), int(second.id)])


async def test_installs_and_uninstalls_are_lifecycle_entries(reader: Reader) -> None:
    reader.sim.add_portal(77)
    reader.sim.installs.install(77, frozenset({"oauth"}))
    reader.sim.installs.uninstall(77)
    entries = await reader.entries()
    assert [(entry["action"], entry["eventTypeId"]) for entry in entries] == [
        ("APP_INSTALL", "4-1909196"), ("APP_UNINSTALL", "4-1916193"),
    ]  # fmt: skip


async def test_batches_hold_several_pages(reader: Reader) -> None:
    for number in range(9):
        create(reader.sim, number)
    _, first = await reader.call(f"{ROOT}/batch/earliest/2")
    _, rest = await reader.call(f"{ROOT}/batch/{first['results'][-1]['currentOffset']}/next/100")
    _, latest = await reader.call(f"{ROOT}/batch/latest/1")
    assert (len(first["results"]), len(rest["results"])) == (2, 1)
    assert latest["results"][0]["currentOffset"] == rest["results"][0]["currentOffset"]


@pytest.mark.parametrize("count", ["0", "101", "x"])
async def test_batch_has_one_to_a_hundred_pages(reader: Reader, count: str) -> None:
    assert (await reader.call(f"{ROOT}/batch/earliest/{count}"))[0] == HTTPStatus.BAD_REQUEST


async def test_batch_read_reports_unknown_offsets_beside_the_known(reader: Reader) -> None:
    for number in range(3):
        create(reader.sim, number)
    (page,) = reader.sim.journal.store.pages()
    status, body = await reader.call(f"{ROOT}/batch/read", {"inputs": [page.offset, "unknown"]})
    assert (status, len(body["results"]), body["numErrors"]) == (HTTPStatus.MULTI_STATUS, 1, 1)


async def test_file_takes_no_token(reader: Reader) -> None:
    create(reader.sim)
    _, location = await reader.call(f"{ROOT}/latest")
    assert (await reader.file(location, Authorization="Bearer x"))[0] == HTTPStatus.BAD_REQUEST
    assert (await reader.file(location))[0] == HTTPStatus.OK


async def test_address_of_a_file_expires_and_another_read_gives_a_new_one(reader: Reader, clock: ManualClock) -> None:
    create(reader.sim)
    _, location = await reader.call(f"{ROOT}/latest")
    clock.advance(300)
    assert (await reader.file(location))[0] == HTTPStatus.FORBIDDEN
    _, body = await reader.call(f"{ROOT}/batch/read", {"inputs": [location["currentOffset"]]})
    assert (await reader.file(body["results"][0]))[0] == HTTPStatus.OK


async def test_pages_are_kept_for_three_days(reader: Reader, clock: ManualClock) -> None:
    create(reader.sim)
    _, location = await reader.call(f"{ROOT}/latest")
    clock.advance(3 * 86_400)
    await reader.log_in()
    assert (await reader.call(f"{ROOT}/earliest"))[0] == HTTPStatus.NO_CONTENT
    assert (await reader.call(f"{ROOT}/offset/{location['currentOffset']}/next"))[0] == HTTPStatus.NOT_FOUND


async def test_one_portal_may_be_read_alone(reader: Reader) -> None:
    create(reader.sim)
    reader.sim.journal.store.add({"type": "crmObject", "portalId": 9, "action": "CREATE"})
    _, location = await reader.call(f"{ROOT}/latest?installPortalId=9")
    _, page = await reader.file(location)
    assert [entry["portalId"] for entry in page["journalEvents"]] == [9]


async def test_hundred_and_first_read_within_a_second_is_refused(reader: Reader) -> None:
    statuses = [(await reader.call(f"{ROOT}/earliest"))[0] for _ in range(101)]
    assert (statuses.count(HTTPStatus.NO_CONTENT), statuses[-1]) == (100, HTTPStatus.TOO_MANY_REQUESTS)


async def test_faults_apply_to_reads_and_files(reader: Reader) -> None:
    reader.sim.faults.add(Fault(path="/webhooks-journal/*", status=503, times=1))
    assert (await reader.call(f"{ROOT}/earliest"))[0] == HTTPStatus.SERVICE_UNAVAILABLE
    assert (await reader.call(f"{ROOT}/earliest"))[0] == HTTPStatus.NO_CONTENT


async def test_hand_made_entries_may_be_of_any_type(reader: Reader) -> None:
    async with aiohttp.ClientSession() as session:
        await session.post(reader.sim.url + "/_sim/journal/entries", json=[{"type": "carrier_pigeon"}])
    assert await reader.entries() == [{"type": "carrier_pigeon"}]


async def test_own_writes_of_the_app_are_in_the_journal_too(reader: Reader) -> None:
    reader.sim.crm.update(create(reader.sim), {"phone": "1"}, ChangeSource("INTEGRATION", "7788990"))
    assert len(await reader.entries()) == 2
