"""The pages Audit, Privacy and Settings over real HTTP, without a browser."""

from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.console.accounts.policy import Role
from spokes.console.web.audit_export import parse_filters
from spokes.core import clock
from spokes.privacy.requests import ErasureRequest, Law, add_request
from tests.support.console_visitor import KEY, Visitor, archive, running_console, visible_text
from tests.support.deployment import KEY as AUDIT_KEY
from tests.support.deployment import SECRET, TOKEN
from tests.support.events import record

PORTAL = 50112233
UNREACHABLE = "http://127.0.0.1:9"
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis, sqlite_engine: AsyncEngine) -> AsyncIterator[TestClient]:
    """The console with a migrated audit store."""
    await Archiver(redis, sqlite_engine, AUDIT_KEY).run_once()
    async with running_console(environ, PUBLIC_URL=UNREACHABLE, HUBSPOT_API_URL=UNREACHABLE) as client:
        yield client


class TestAudit:
    async def test_empty_audit_is_explained(self, client: TestClient) -> None:
        status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/audit")
        assert (status, "The audit is empty" in page) == (200, True)

    async def test_records_are_shown_escaped(
        self, client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
    ) -> None:
        hostile = {"handler": EVIL, "actor": EVIL, "reason": EVIL, "object_id": EVIL, "subscription_type": EVIL}
        await archive(redis, sqlite_engine, record(1, **hostile))
        _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/audit", actor=EVIL)
        assert "alert(1)" in visible_text(page)
        assert "<script>a" not in page
        assert "<img src=x" not in page

    async def test_cursors_lead_through_all_records(
        self, client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
    ) -> None:
        await archive(redis, sqlite_engine, *(record(number) for number in range(120)))
        visitor, seen_rows, query = await Visitor.signed_in(client, Role.VIEWER), 0, ""
        for _ in range(3):
            _, page = await visitor.get(f"/console/audit?{query}")
            seen_rows += page.count('class="time"')
            query = page.partition("after=")[2].partition('"')[0]
            query = f"after={query}"
        assert (seen_rows, query) == (120, "after=")

    @pytest.mark.parametrize(
        ("query", "sentence"),
        [
            ({"since": "yesterday"}, "Since is not a time; try 2026-11-23, 2026-11-23T14:00, 2h or 7d."),
            ({"portal_id": "9" * 30}, "Portal id is not a number."),
            ({"action": EVIL}, "Action is not a known value."),
            ({"outcome": "lost"}, "Outcome is not a known value."),
        ],
    )
    def test_invalid_filter_is_explained(self, query: dict[str, str], sentence: str) -> None:
        assert parse_filters(query)[1] == [sentence]

    async def test_records_of_other_portals_are_not_shown(
        self, client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
    ) -> None:
        await archive(redis, sqlite_engine, record(1))
        operator = await Visitor.signed_in(client, Role.OPERATOR, portals=[7])
        (_, page), (_, file) = await operator.get("/console/audit"), await operator.get("/console/audit/export")
        assert ("No record matches" in page or "audit is empty" in page, file) == (True, "")
        assert "The chain" not in page

    @pytest.mark.parametrize("file_format", ["jsonl", "csv"])
    async def test_export_streams_the_matching_records(
        self, client: TestClient, redis: Redis, sqlite_engine: AsyncEngine, file_format: str
    ) -> None:
        await archive(redis, sqlite_engine, *(record(number) for number in range(1_100)))
        operator = await Visitor.signed_in(client, Role.OPERATOR)
        _, file = await operator.get("/console/audit/export", format=file_format, object_type="contact")
        lines = file.splitlines()
        assert len(lines) == 1_100 + (file_format == "csv")
        assert file_format == "csv" or orjson.loads(lines[0])["seq"] == 1

    @pytest.mark.parametrize(
        ("role", "query", "status"), [(Role.VIEWER, {}, 403), (Role.ADMIN, {"format": "xml"}, 422)]
    )
    async def test_export_without_permission_or_of_an_unknown_format_is_refused(
        self, client: TestClient, role: Role, query: dict[str, str], status: int
    ) -> None:
        assert (await (await Visitor.signed_in(client, role)).get("/console/audit/export", **query))[0] == status

    async def test_chain_is_recomputed(self, client: TestClient, redis: Redis, sqlite_engine: AsyncEngine) -> None:
        await archive(redis, sqlite_engine, record(1), record(2))
        response = await (await Visitor.signed_in(client, Role.VIEWER)).post("/console/audit/verify", {})
        page = await response.text()
        assert "The chain is intact: 2 records" in page
        assert "spokes-audit-1:checkpoint:" in page


class TestPrivacy:
    async def test_empty_privacy_page_is_explained(self, client: TestClient) -> None:
        _, page = await (await Visitor.signed_in(client, Role.PRIVACY_OFFICER)).get("/console/privacy")
        assert "There are no open requests" in page

    async def test_due_late_and_done_requests_are_shown(self, client: TestClient, sqlite_engine: AsyncEngine) -> None:
        day = 86_400_000
        now = clock.now_ms()
        late = ErasureRequest(PORTAL, "h1", ("51",), Law.CCPA, EVIL, now - 50 * day)
        await add_request(sqlite_engine, late)
        await add_request(sqlite_engine, ErasureRequest(PORTAL, "h2", ("52",), Law.CCPA, "ada", now))
        await add_request(sqlite_engine, ErasureRequest(PORTAL, "h3", ("53",), Law.GDPR, "ada", now).as_done())
        _, page = await (await Visitor.signed_in(client, Role.ADMIN)).get("/console/privacy")
        text = visible_text(page)
        assert "5 days late" in text or "6 days late" in text
        assert "in 44 days" in text or "in 45 days" in text
        assert "<script>a" not in page
        assert ">53<" not in page

    async def test_operator_is_refused(self, client: TestClient) -> None:
        assert (await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/privacy"))[0] == 403


class TestSettings:
    async def test_findings_handlers_and_masked_settings_are_shown(self, client: TestClient) -> None:
        status, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/settings")
        text = visible_text(page)
        assert status == 200
        assert "loses events" in text
        assert "contact.creation" in text
        assert "HUBSPOT_CLIENT_SECRET" in text
        assert [secret for secret in (SECRET, TOKEN, KEY, AUDIT_KEY) if secret in page] == []

    async def test_viewer_is_refused(self, client: TestClient) -> None:
        assert (await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/settings"))[0] == 403


async def test_pages_without_a_session_redirect_to_the_login(client: TestClient) -> None:
    for path in ("", "/object", "/dead", "/audit", "/privacy", "/settings", "/now/live"):
        async with client.get("/console" + path, allow_redirects=False) as response:
            assert (response.status, response.headers.get("Location")) == (303, "/console/login")


async def test_navigation_has_only_the_pages_of_the_role(client: TestClient) -> None:
    _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
    assert [name for name in ("Audit", "Privacy", "Settings") if f">{name}</a>" in page] == ["Audit"]
