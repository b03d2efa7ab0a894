"""The page *Audit*, its export and chain verification, over real HTTP."""

from pathlib import Path

import orjson
import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.checkpoints import sign_end_now, signing_key
from spokes.audit.evidence.checkpoint_target import keep_checkpoint
from spokes.audit.sql.engine import write_connection
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.web.app_keys import SETTINGS
from spokes.console.web.audit_export import parse_filters
from spokes.core.redis.keys import AUDIT_CHAIN_END
from tests.support.console_visitor import HOSTILE_HTML, Visitor, archive, running_console, visible_text
from tests.support.deployment import KEY as AUDIT_KEY
from tests.support.events import record

pytestmark = pytest.mark.usefixtures("migrated_store")


async def test_empty_audit_is_explained(client: TestClient) -> None:
    status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/audit")
    assert (status, "The audit is empty" in page) == (200, True)


async def test_records_are_shown_escaped(client: TestClient, redis: Redis, sqlite_engine: AsyncEngine) -> None:
    names = ("handler", "actor", "reason", "object_id", "subscription_type")
    await archive(redis, sqlite_engine, record(1, **dict.fromkeys(names, HOSTILE_HTML)))
    _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/audit", actor=HOSTILE_HTML)
    assert "alert(1)" in visible_text(page)
    assert "<script>a" not in page
    assert "<img src=x" not in page


async def test_cursors_lead_through_all_records(client: TestClient, redis: Redis, sqlite_engine: AsyncEngine) -> None:
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
        ({"action": HOSTILE_HTML}, "Action is not a known value."),
        ({"outcome": "lost"}, "Outcome is not a known value."),
    ],
)
def test_invalid_filter_is_explained(query: dict[str, str], sentence: str) -> None:
    assert parse_filters(query)[1] == [sentence]


async def test_records_of_other_portals_are_not_shown(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
) -> None:
    await archive(redis, sqlite_engine, record(1))
    operator = await Visitor.signed_in(client, Role.OPERATOR, portals=[7])
    (_, page), (_, file) = await operator.get("/console/audit"), await operator.get("/console/audit/export")
    assert ("No record matches" in page or "audit is empty" in page, file) == (True, "")
    assert "The chain" not in page


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
async def test_export_streams_the_matching_records(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine, file_format: str
) -> None:
    await archive(redis, sqlite_engine, *(record(number) for number in range(1_100)))
    operator = await Visitor.signed_in(client, Role.OPERATOR)
    _, file = await operator.get("/console/audit/export", format=file_format, object_type="contact")
    lines = file.splitlines()
    assert len(lines) == 1_100 + (file_format == "csv")
    assert file_format == "csv" or orjson.loads(lines[0])["seq"] == 1


@pytest.mark.parametrize(("role", "query", "status"), [(Role.VIEWER, {}, 403), (Role.ADMIN, {"format": "xml"}, 422)])
async def test_export_without_permission_or_of_an_unknown_format_is_refused(
    client: TestClient, role: Role, query: dict[str, str], status: int
) -> None:
    assert (await (await Visitor.signed_in(client, role)).get("/console/audit/export", **query))[0] == status


async def test_chain_is_recomputed(client: TestClient, redis: Redis, sqlite_engine: AsyncEngine) -> None:
    await archive(redis, sqlite_engine, record(1), record(2))
    response = await (await Visitor.signed_in(client, Role.VIEWER)).post("/console/audit/verify", {})
    page = await response.text()
    assert "The chain is intact: 2 records" in page
    assert "spokes-audit-1:checkpoint:" in page


async def cut_after_second_record(engine: AsyncEngine) -> None:
    """Remove the end of the chain with its checkpoints, as an actor with write access to the database can."""
    async with write_connection(engine) as connection:
        for statement in (
            "DELETE FROM audit_records WHERE seq > 2",
            "DELETE FROM audit_checkpoints WHERE seq > 2",
            "UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_records WHERE seq = 2)",
        ):
            await connection.execute(text(statement))


async def test_chain_without_its_end_is_found_by_page_and_api(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
) -> None:
    """The chain is consistent in itself; Redis knows where it ended."""
    await archive(redis, sqlite_engine, record(1), record(2))
    await archive(redis, sqlite_engine, record(3))
    await cut_after_second_record(sqlite_engine)
    page = await (await (await Visitor.signed_in(client, Role.VIEWER)).post("/console/audit/verify", {})).text()
    token = ApiTokens.from_settings(client.server.app[SETTINGS]).mint("robot", [Role.VIEWER]).token
    async with client.get("/api/v1/audit/verify", headers={"Authorization": f"Bearer {token}"}) as response:
        result = await response.json()
    assert "The chain was cut off after record 2" in page
    assert (result["intact"], result["seq"], result["tampering"]) == (False, 3, "removed")


async def test_chain_that_contradicts_a_kept_checkpoint_is_found_by_the_page(
    environ: dict[str, str], redis: Redis, sqlite_engine: AsyncEngine, tmp_path: Path
) -> None:
    """Also if Redis was emptied: the file of CHECKPOINT_TO names the record that is missing."""
    kept = tmp_path / "checkpoints.txt"
    await archive(redis, sqlite_engine, record(1), record(2))
    await archive(redis, sqlite_engine, record(3))
    end = await sign_end_now(sqlite_engine, signing_key(AUDIT_KEY))
    assert end is not None
    await keep_checkpoint(str(kept), end)
    await cut_after_second_record(sqlite_engine)
    await redis.delete(AUDIT_CHAIN_END)
    async with running_console(environ, CHECKPOINT_TO=str(kept)) as client:
        page = await (await (await Visitor.signed_in(client, Role.VIEWER)).post("/console/audit/verify", {})).text()
    assert "The chain was cut off after record 2" in page
