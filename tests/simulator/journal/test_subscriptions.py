"""The simulator's API for subscriptions to the journal, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from spokes.simulator.app import Simulator
from spokes.simulator.config import JournalConfig

ROOT = "/webhooks-journal/subscriptions/2026-09"
SCOPES = "developer.webhooks_journal.subscriptions.read developer.webhooks_journal.subscriptions.write"
BODY = {"subscriptionType": "OBJECT", "portalId": 7, "objectTypeId": "0-1", "actions": ["CREATE"]}


class App:
    """An app with a token of its own."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self._session = session
        self.token = ""

    async def log_in(self, scope: str = SCOPES) -> None:
        form = {"client_id": self.sim.config.oauth.client_id, "client_secret": self.sim.config.client_secret,
                "grant_type": "client_credentials", "scope": scope}  # fmt: skip
        async with self._session.post(f"{self.sim.url}/oauth/2026-09/token", data=form) as response:
            self.token = (await response.json())["access_token"]

    async def __call__(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self._session.request(method, self.sim.url + ROOT + path, json=body, headers=headers) as response:
            return response.status, await response.json() if response.status != 204 else None


@pytest.fixture
async def app(hubspot: Simulator) -> AsyncIterator[App]:
    async with aiohttp.ClientSession() as session:
        app = App(hubspot, session)
        await app.log_in()
        yield app


async def test_subscription_is_created_listed_read_and_deleted(app: App) -> None:
    status, created = await app("POST", "", BODY)
    assert (status, BODY.items() <= created.items()) == (200, True)
    path = f"/{created['id']}"
    assert (await app("GET", ""))[1] == {"results": [created]}
    assert (await app("GET", path)) == (200, created)
    assert [(await app("DELETE", path))[0] for _ in range(2)] == [204, 404]


@pytest.mark.parametrize(
    "body",
    [
        {**BODY, "subscriptionType": "EVENT"},
        {**BODY, "portalId": "7"},
        {**BODY, "actions": ["CREATED"]},
        {**BODY, "actions": []},
        {**BODY, "listIds": [1]},
        {"subscriptionType": "APP_LIFECYCLE_EVENT"},
        ["OBJECT"],
    ],
)
async def test_form_of_another_shape_is_refused(app: App, body: object) -> None:
    status, error = await app("POST", "", body)
    assert (status, error["category"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("behaviour", "status", "actions", "keeps_id"),
    [
        ("replace", 200, ["MERGE"], True),
        ("new_id", 200, ["MERGE"], False),
        ("keep", 200, ["CREATE"], True),
        ("conflict", 409, ["CREATE"], True),
    ],
)
async def test_second_post_is_answered_as_configured(
    app: App, behaviour: Any, status: int, actions: list[str], keeps_id: bool
) -> None:
    app.sim.journal_subscriptions.config = JournalConfig(second_post=behaviour)
    _, first = await app("POST", "", BODY)
    assert (await app("POST", "", {**BODY, "actions": ["MERGE"]}))[0] == status
    [stored] = (await app("GET", ""))[1]["results"]
    assert (stored["actions"], stored["id"] == first["id"]) == (actions, keeps_id)


async def test_portal_is_cleared_with_one_call(app: App) -> None:
    for portal_id, type_id in ((7, "0-1"), (7, "0-2"), (8, "0-1")):
        await app("POST", "", {**BODY, "portalId": portal_id, "objectTypeId": type_id})
    assert (await app("DELETE", "/portals/7"))[0] == 204
    assert [each["portalId"] for each in (await app("GET", ""))[1]["results"]] == [8]


async def test_filters_belong_to_a_subscription(app: App) -> None:
    _, created = await app("POST", "", BODY)
    condition = {"filterType": "CRM_OBJECT_PROPERTY", "property": "stage", "operator": "EQ", "value": "won"}
    body = {"subscriptionId": created["id"], "filter": {"conditions": [condition]}}
    _, made = await app("POST", "/filters", body)
    [listed] = (await app("GET", f"/filters/subscription/{created['id']}"))[1]
    assert (listed["id"], listed["filter"]) == (made["filterId"], body["filter"])
    assert (await app("GET", f"/filters/{made['filterId']}"))[1] == listed
    assert [(await app("DELETE", f"/filters/{made['filterId']}"))[0] for _ in range(2)] == [204, 404]
    assert (await app("POST", "/filters", {**body, "filter": {"conditions": []}}))[0] == 400


async def test_token_and_scopes_are_checked(app: App) -> None:
    await app.log_in("developer.webhooks_journal.subscriptions.read")
    assert ((await app("GET", ""))[0], (await app("POST", "", BODY))[0]) == (200, 403)
    app.token = "another"
    assert (await app("GET", ""))[0] == 401


async def test_calls_are_limited_by_the_second(app: App) -> None:
    app.sim.journal_subscriptions.config = JournalConfig(subscription_calls_secondly=2)
    assert [(await app("GET", ""))[0] for _ in range(3)] == [200, 200, 429]
