"""The page *Privacy*, over real HTTP."""

import pytest
from aiohttp.test_utils import TestClient
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.accounts.policy import Role
from spokes.core import clock
from spokes.privacy.requests import ErasureRequest, Law, add_request
from tests.support.console_visitor import HOSTILE_HTML, Visitor, visible_text

PORTAL = 50112233


pytestmark = pytest.mark.usefixtures("migrated_store")


async def test_empty_privacy_page_is_explained(client: TestClient) -> None:
    _, page = await (await Visitor.signed_in(client, Role.PRIVACY_OFFICER)).get("/console/privacy")
    assert "There are no open requests" in page


async def test_due_late_and_done_requests_are_shown(client: TestClient, sqlite_engine: AsyncEngine) -> None:
    day = 86_400_000
    now = clock.now_ms()
    late = ErasureRequest(PORTAL, "h1", ("51",), Law.CCPA, HOSTILE_HTML, now - 50 * day)
    await add_request(sqlite_engine, late)
    await add_request(sqlite_engine, ErasureRequest(PORTAL, "h2", ("52",), Law.CCPA, "ada", now))
    await add_request(sqlite_engine, ErasureRequest(PORTAL, "h3", ("53",), Law.GDPR, "ada", now).as_done())
    _, page = await (await Visitor.signed_in(client, Role.ADMIN)).get("/console/privacy")
    text = visible_text(page)
    assert "5 days late" in text or "6 days late" in text
    assert "in 44 days" in text or "in 45 days" in text
    assert "<script>a" not in page
    assert ">53<" not in page


async def test_operator_is_refused(client: TestClient) -> None:
    assert (await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/privacy"))[0] == 403
