import re
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.records import Action, Outcome
from spokes.audit.sql import schema
from spokes.audit.sql.engine import read_connection
from spokes.audit.sql.queries import Filters, find_records
from spokes.audit.sql.tables import RECORDS
from tests.support.deployment import KEY
from tests.support.events import append_records, record

ODD = {
    "action": Action.CRM_WRITE,
    "outcome": Outcome.DEAD,
    "reason": "object_not_found",
    "portal_id": 7,
    "object_type": "deal",
    "object_id": "51",
    "event_key": "k",
    "event_id": 9,
    "delivery_id": "d",
    "handler": "h",
    "actor": "ada",
    "correlation_id": "c",
    "detail": {"token_fingerprint": "0123456789abcdef"},
}
FILTERS = {**{name: value for name, value in ODD.items() if name != "detail"}, "token": "0123456789abcdef"}


@pytest.fixture
async def store(redis: Redis, engine: AsyncEngine) -> AsyncEngine:
    """Return a store with twelve records, a millisecond apart; the fifth differs from the others in every field."""
    numbers = range(1, 13)
    await append_records(redis, *(record(n, at=1000 + n, **(ODD if n == 5 else {})) for n in numbers))
    await Archiver(redis, engine, KEY).drain()
    return engine


async def seqs(store: AsyncEngine, filters: Filters, **options: object) -> list[object]:
    return [row["seq"] async for row in find_records(store, filters, **options)]


async def test_oldest_comes_first(store: AsyncEngine) -> None:
    assert await seqs(store, Filters()) == list(range(1, 13))


async def test_newest_comes_first_if_requested(store: AsyncEngine) -> None:
    assert await seqs(store, Filters(), newest_first=True, limit=3) == [12, 11, 10]


async def test_each_filter_selects_by_its_own_column(store: AsyncEngine) -> None:
    seqs_by_filter = {name: await seqs(store, Filters(**{name: value})) for name, value in FILTERS.items()}
    assert seqs_by_filter == {name: [5] for name in FILTERS}


async def test_filters_are_combined(store: AsyncEngine) -> None:
    assert await seqs(store, Filters(object_id="51", outcome=Outcome.PROCESSED)) == []


async def test_since_is_included_and_until_excluded(store: AsyncEngine) -> None:
    assert await seqs(store, Filters(since=1003, until=1006)) == [3, 4, 5]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_join_without_gap_or_overlap(
    redis: Redis, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, newest_first: bool
) -> None:
    """Even if many records have the same time."""
    monkeypatch.setattr("spokes.audit.sql.queries._PAGE_SIZE", 4)
    await append_records(redis, *(record(number, at=1000 + number // 6) for number in range(1, 12)))
    await Archiver(redis, engine, KEY).drain()
    result = await seqs(engine, Filters(), newest_first=newest_first, limit=10)
    assert result == (list(range(11, 1, -1)) if newest_first else list(range(1, 11)))


SEARCHES = [
    *(({name: "x"}, f"ix_audit_records_{name}") for name in ("object_id", "event_key", "delivery_id", "actor")),
    ({"correlation_id": "x"}, "ix_audit_records_correlation_id"),
    ({"event_id": 9}, "ix_audit_records_event_id"),
    ({"outcome": Outcome.DEAD}, "ix_audit_records_dead"),
    ({"outcome": Outcome.DUPLICATE}, "ix_audit_records_duplicate"),
    ({"outcome": Outcome.DEAD, "reason": "x", "handler": "y"}, "ix_audit_records_dead_cause"),
]


async def explain(engine: AsyncEngine, prefix: str, filters: Filters, *settings: str) -> list[Any]:
    """Return the plan of a search, sent with its parameters as `find_records` sends it."""
    await schema.upgrade(engine)
    query = select(RECORDS).where(*filters.conditions()).order_by(RECORDS.c.at, RECORDS.c.seq)
    compiled = query.compile(dialect=engine.dialect, compile_kwargs={"render_postcompile": True})
    parameters = tuple(compiled.params[name] for name in compiled.positiontup or ())
    async with read_connection(engine) as connection:
        for setting in settings:
            await connection.execute(text(f"SET LOCAL {setting}"))
        return list(await connection.exec_driver_sql(f"{prefix} {compiled}", parameters))


@pytest.mark.parametrize(("values", "index"), SEARCHES)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_search_in_a_time_range_uses_its_index(engine: AsyncEngine, values: dict[str, Any], index: str) -> None:
    plan = await explain(engine, "EXPLAIN QUERY PLAN", Filters(**values, since=1, until=2))
    columns = "".join(f"{name}=? AND " for name in values if name != "outcome")
    assert [row[3] for row in plan] == [f"SEARCH audit_records USING INDEX {index} ({columns}at>? AND at<?)"]


@pytest.mark.parametrize("values", [values for values, _ in SEARCHES])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_search_in_postgresql_reads_indexes_in_order(engine: AsyncEngine, values: dict[str, Any]) -> None:
    """An index of every partition, and nothing is sorted."""
    forbidden = [f"enable_{kind} = off" for kind in ("seqscan", "bitmapscan", "sort")]
    plan = "\n".join(row[0] for row in await explain(engine, "EXPLAIN", Filters(**values), *forbidden))
    names = [name for name in values if name != "outcome"]
    conditions = re.findall(r"Index Cond: (.*)", plan)
    assert "Index Scan" in plan
    assert not re.search(r"Seq Scan|Sort", plan.replace("Sort Key", "")), plan
    assert len(conditions) == (plan.count("Index Scan") if names else 0), plan
    assert all(f"{name} = " in condition for name in names for condition in conditions), plan
