"""The objects that were read, written or exported in a period, on both kinds of database."""

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql.affected import Access, affected_objects
from spokes.audit.sql.queries import Filters
from spokes.audit.stream import append
from tests.support.command_line import spokes
from tests.support.deployment import KEY
from tests.support.events import record


def used(number: int, object_id: str, action: Action = Action.EVENT, **fields: object) -> AuditRecord:
    if action != Action.EVENT:
        fields = {"outcome": None, **fields}
    return record(number, object_id=object_id, action=action, at=number * 1000, **fields)


async def archive(redis: Redis, engine: AsyncEngine, *records: AuditRecord) -> None:
    pipeline = redis.pipeline()
    for item in records:
        append(pipeline, item)
    await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()


async def uses(engine: AsyncEngine, **filters: object) -> dict[str | None, tuple[Access, ...]]:
    objects = await affected_objects(engine, Filters(**filters))  # type: ignore[arg-type]  # the tests' own filters
    return {item.object_id: item.access for item in objects}


async def test_object_is_listed_once_with_all_its_uses(redis: Redis, engine: AsyncEngine) -> None:
    await archive(
        redis, engine, used(1, "51"), used(2, "51", Action.CRM_WRITE), used(3, "51", Action.PRIVACY_EXPORTED),
        used(4, "51", Action.VALUE_REVEALED), used(5, "51", Action.CRM_WRITE, reason="conflict"),
    )  # fmt: skip
    [item] = await affected_objects(engine, Filters(since=0))
    assert item.access == tuple(Access)
    assert (item.records, item.first_at, item.last_at) == (5, 1000, 5000)


@pytest.mark.parametrize("outcome", ["superseded", "echo", "discarded", "merged"])
async def test_event_that_no_handler_received_is_no_read(redis: Redis, engine: AsyncEngine, outcome: str) -> None:
    await archive(redis, engine, used(1, "51", outcome=outcome), used(2, "52", handler=""))
    assert await uses(engine, since=0) == {}


async def test_failed_event_of_a_handler_is_a_read(redis: Redis, engine: AsyncEngine) -> None:
    await archive(redis, engine, used(1, "51", outcome="dead"), used(2, "52", outcome="retried"))
    assert await uses(engine, since=0) == {"51": (Access.READ,), "52": (Access.READ,)}


async def test_period_includes_its_start_and_excludes_its_end(redis: Redis, engine: AsyncEngine) -> None:
    await archive(redis, engine, *(used(number, str(number)) for number in (1, 2, 3, 4)))
    assert list(await uses(engine, since=2000, until=4000)) == ["2", "3"]


async def test_uses_are_selected_by_actor_and_by_handler(redis: Redis, engine: AsyncEngine) -> None:
    await archive(
        redis, engine, used(1, "51", Action.PRIVACY_EXPORTED, actor="ada", handler=""), used(2, "52", handler="a.b")
    )
    assert await uses(engine, since=0, actor="ada") == {"51": (Access.EXPORTED,)}
    assert await uses(engine, since=0, handler="a.b") == {"52": (Access.READ,)}


async def test_uses_are_selected_by_token(redis: Redis, engine: AsyncEngine) -> None:
    old, new = "0123456789abcdef", "fedcba9876543210"
    await archive(
        redis, engine,
        used(1, "51", detail={"token_fingerprint": old}), used(2, "52", detail={"token_fingerprint": new}),
        used(3, "53", Action.CRM_WRITE, detail={"method": "contacts.update", "ok": True, "token_fingerprint": old}),
        used(4, "54"), used(5, "55", detail={"failure": {"error": f'"token_fingerprint":"{old}"'}}),
    )  # fmt: skip
    objects = await affected_objects(engine, Filters(since=0, token=old))
    assert {item.object_id: item.access for item in objects} == {"51": (Access.READ,), "53": (Access.WRITTEN,)}


async def test_equal_ids_of_two_portals_and_types_are_distinct_objects(redis: Redis, engine: AsyncEngine) -> None:
    await archive(
        redis, engine, used(1, "51"), used(2, "51", portal_id=7), used(3, "51", object_type="deal"), used(4, "51")
    )
    assert len(await affected_objects(engine, Filters(since=0))) == 3


async def test_command_prints_objects_as_table_and_as_json(
    redis: Redis, engine: AsyncEngine, database_url: str
) -> None:
    await archive(redis, engine, used(1, "51"), used(2, "51", Action.CRM_WRITE))
    environ = {"AUDIT_KEY": KEY, "DATABASE_URL": database_url}
    table = spokes(environ, "audit", "affected", "--since", "1970-01-01")
    document = orjson.loads(spokes(environ, "audit", "affected", "--since", "1970-01-01", "--json").stdout)
    assert (table.returncode, "contact 51" in table.stdout, "read, written" in table.stdout) == (0, True, True)
    assert (document["object_id"], document["access"], document["records"]) == ("51", ["read", "written"], 2)


def test_period_without_a_start_is_refused() -> None:
    refused = spokes({"AUDIT_KEY": KEY}, "audit", "affected")
    assert (refused.returncode, "--since" in refused.stderr) == (2, True)


@pytest.mark.parametrize("text", ["", "pat-eu1-0123456789abcdef", "0123456789ABCDEF", "0123456789abcde%"])
def test_token_instead_of_its_fingerprint_is_refused_and_not_repeated(text: str) -> None:
    refused = spokes({"AUDIT_KEY": KEY}, "audit", "affected", "--since", "1d", "--token", text)
    assert (refused.returncode, "is not a fingerprint" in refused.stderr.replace("\n", " ")) == (2, True)
    assert "pat-eu1" not in refused.stderr
