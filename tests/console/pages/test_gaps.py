"""The page *Gaps* and its endpoints, over real HTTP."""

import pytest
from aiohttp.test_utils import TestClient
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.accounts.policy import Role
from spokes.core.settings import Settings
from spokes.gaps.gap import GapCause, MissedInterval, Proof
from spokes.gaps.ledger import GapLedger
from tests.support.console_visitor import Visitor

DOWN = MissedInterval(since=1_795_000_000_000, until=1_795_090_000_000, cause=GapCause.NO_WEB_PROCESS)


@pytest.fixture
async def ledger(environ: dict[str, str], sqlite_engine: AsyncEngine, migrated_store: None) -> GapLedger:
    ledger = GapLedger.from_settings(Settings.from_env(environ), sqlite_engine)
    await ledger.report(DOWN, portals=[7, 8], scopes=["contact"])
    return ledger


async def test_operator_closes_a_gap_of_their_portal(client: TestClient, ledger: GapLedger) -> None:
    operator = await Visitor.signed_in(client, Role.OPERATOR, portals=[7])
    status, page = await operator.get("/console/gaps")
    own, other = sorted(await ledger.list(), key=lambda gap: gap.portal_id)
    assert (status, own.id in page, other.id in page) == (200, True, False)
    assert (await operator.post("/console/gaps/close", {"gap": other.id, "reason": "x"})).status == 409
    assert (await operator.post("/console/gaps/close", {"gap": own.id, "reason": ""})).status == 422
    response = await operator.post("/console/gaps/close", {"gap": own.id, "reason": "a test portal"})
    assert f"Gap {own.id} is closed." in await response.text()
    assert (await ledger.find(own.id)).proof is Proof.OPERATOR


async def test_viewer_closes_no_gap(client: TestClient, ledger: GapLedger) -> None:
    viewer = await Visitor.signed_in(client, Role.VIEWER)
    assert "Close without a proof" not in (await viewer.get("/console/gaps"))[1]
