"""Incidents over real HTTP, with a real store: for those who may see personal data of all portals."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.direct_records import DirectRecords
from spokes.audit.incidents.incident import Incident, Note
from spokes.audit.incidents.incident_store import IncidentStore
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.api.route import PREFIX
from spokes.console.web.app_keys import SETTINGS
from spokes.core.clock import now_ms
from tests.support.deployment import KEY
from tests.support.events import append_records, record

PORTAL = 50112233


@pytest.fixture
async def incident_id(redis: Redis, migrated_store: None, sqlite_engine: AsyncEngine) -> str:
    """An open incident with a note, and an affected object."""
    await append_records(redis, record(1, object_id="51"))
    await Archiver(redis, sqlite_engine, KEY).drain()
    incident = Incident(title="Token leaked", aware_at=now_ms(), opened_by="ada", since=0)
    store = IncidentStore(sqlite_engine, DirectRecords(KEY, 1000), "ada")
    await store.open(incident)
    await store.add_note(Note(incident_id=incident.id, author="ada", text="revoked"))
    return incident.id


async def get(client: TestClient, path: str, role: Role, portals: Sequence[int] | None = None) -> tuple[int, Any]:
    tokens = ApiTokens.from_settings(client.server.app[SETTINGS])
    headers = {"Authorization": f"Bearer {tokens.mint('ada', [role], portals).token}"}
    async with client.get(f"{PREFIX}/incidents{path}", headers=headers) as response:
        return response.status, orjson.loads(await response.read())


async def test_privacy_officer_reads_clock_notes_and_affected_objects(client: TestClient, incident_id: str) -> None:
    status, views = await get(client, "", Role.PRIVACY_OFFICER)
    _, details = await get(client, f"/{incident_id}", Role.PRIVACY_OFFICER)
    assert (status, [(view["incident"]["id"], view["clock"]) for view in views]) == (200, [(incident_id, "running")])
    assert [note["text"] for note in details["notes"]] == ["revoked"]
    assert [(item["object_id"], item["access"]) for item in details["affected"]] == [("51", ["read"])]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_incident_is_closed_to_other_roles(client: TestClient, incident_id: str, role: Role) -> None:
    assert [(await get(client, path, role))[0] for path in ("", f"/{incident_id}")] == [403, 403]


async def test_actor_of_some_portals_sees_no_incident(client: TestClient, incident_id: str) -> None:
    assert await get(client, "", Role.PRIVACY_OFFICER, [PORTAL]) == (200, [])
    assert (await get(client, f"/{incident_id}", Role.PRIVACY_OFFICER, [PORTAL]))[0] == 404


async def test_unknown_incident_is_404(client: TestClient, incident_id: str) -> None:
    assert (await get(client, "/0000", Role.ADMIN))[0] == 404
