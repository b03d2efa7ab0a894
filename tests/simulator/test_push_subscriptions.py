"""The simulated webhooks API of a legacy public app."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig

APP = PortalConfig().app_id
KEY = SimulatorConfig().developer_key


class Developer:
    """Calls the API of one version with the developer's key."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self.url = url
        self.root = f"/app-webhooks/2026-09/{APP}"
        self.key = KEY

    async def __call__(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        address = f"{self.url}{self.root}{path}"
        async with self._session.request(method, address, params={"hapikey": self.key}, json=body) as response:
            return response.status, await response.json() if response.status != 204 else None


@pytest.fixture
async def developer(sim: Simulator) -> AsyncIterator[Developer]:
    async with ClientSession() as session:
        yield Developer(session, sim.url)


async def test_created_subscription_is_listed_and_that_of_every_account(sim: Simulator, developer: Developer) -> None:
    body = {"eventType": "object.creation", "objectTypeId": "0-1", "active": True}
    status, created = await developer("POST", "/subscriptions", body)
    assert (status, created["eventType"], created["objectTypeId"], created["active"]) == (
        201, "object.creation", "0-1", True,
    )  # fmt: skip
    assert (await developer("GET", "/subscriptions"))[1]["results"] == [created]
    assert [each.subscription_id for each in sim.subscriptions.active] == [created["id"]]


@pytest.mark.parametrize(
    "body",
    [
        {"eventType": "contact.creation"},
        {"eventType": "contact.created", "active": True},
        {"eventType": ["contact.creation"], "active": True},
        {"eventType": "contact.propertyChange", "active": True},
        {"eventType": "contact.creation", "propertyName": "email", "active": True},
        {"eventType": "object.creation", "active": True},
        {"eventType": "contact.creation", "active": True, "portalId": 1},
        ["contact.creation"],
    ],
)
async def test_form_of_another_shape_is_refused(developer: Developer, body: object) -> None:
    status, error = await developer("POST", "/subscriptions", body)
    assert (status, error["category"]) == (400, "VALIDATION_ERROR")


async def test_subscription_of_the_numbered_version_starts_inactive(developer: Developer) -> None:
    developer.root = f"/webhooks/v3/{APP}"
    assert (await developer("POST", "/subscriptions", {"eventType": "deal.merge"}))[1]["active"] is False


async def test_same_subscription_is_a_conflict(developer: Developer) -> None:
    body = {"eventType": "deal.merge", "active": True}
    assert [(await developer("POST", "/subscriptions", body))[0] for _ in range(2)] == [201, 409]


async def test_batch_reports_unknown_ids_beside_what_it_changed(developer: Developer) -> None:
    _, created = await developer("POST", "/subscriptions", {"eventType": "deal.merge", "active": False})
    inputs = [{"id": created["id"], "active": True}, {"id": 1, "active": True}]
    status, body = await developer("POST", "/subscriptions/batch/update", {"inputs": inputs})
    assert (status, body["numErrors"], [each["active"] for each in body["results"]]) == (207, 1, [True])


async def test_subscription_is_paused_and_deleted(developer: Developer) -> None:
    _, created = await developer("POST", "/subscriptions", {"eventType": "deal.merge", "active": True})
    path = f"/subscriptions/{created['id']}"
    assert (await developer("PATCH", path, {"active": False}))[1]["active"] is False
    assert (await developer("PATCH", path, {"active": 1}))[0] == 400
    assert [(await developer("DELETE", path))[0] for _ in range(2)] == [204, 404]


async def test_settings_are_absent_until_they_are_written(developer: Developer) -> None:
    settings = {"targetUrl": "https://hooks.example.com", "throttling": {"maxConcurrentRequests": 10}}
    assert (await developer("GET", "/settings"))[0] == 404
    assert (await developer("PUT", "/settings", {**settings, "throttling": {"maxConcurrentRequests": 5}}))[0] == 400
    assert (await developer("PUT", "/settings", {"targetUrl": "https://hooks.example.com"}))[0] == 400
    assert (await developer("PUT", "/settings", settings))[0] == 200
    assert settings.items() <= (await developer("GET", "/settings"))[1].items()


async def test_wrong_key_and_other_app_are_refused(developer: Developer) -> None:
    developer.key = "another"
    assert (await developer("GET", "/subscriptions"))[0] == 401
    developer.key, developer.root = KEY, "/app-webhooks/2026-09/1"
    assert (await developer("GET", "/subscriptions"))[0] == 404
