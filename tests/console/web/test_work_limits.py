"""Verifications, exports and event streams: a bounded number runs at a time, for one actor and in total."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from spokes.console.web.work_limits import WORK_LIMITS, WorkLimit
from spokes.core.errors import HttpProblem
from tests.support.console_visitor import Visitor, running_console


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis, migrated_store: None) -> AsyncIterator[TestClient]:
    async with running_console(environ) as client:
        yield client


def test_limit_holds_for_one_actor_and_in_total_and_ends_with_the_work() -> None:
    limit = WorkLimit(per_actor=1, total=2)
    with limit.running("ada"), limit.running("bob"):
        with pytest.raises(HttpProblem) as own, limit.running("ada"):
            pass
        with pytest.raises(HttpProblem) as total, limit.running("eve"):
            pass
    assert (own.value.status, total.value.status) == (429, 503)
    with limit.running("ada"):
        pass


@pytest.mark.parametrize(
    ("kind", "method", "path"),
    [
        ("verifications", "POST", "/console/audit/verify"),
        ("exports", "GET", "/console/audit/export"),
    ],
)
async def test_expensive_page_is_refused_while_it_runs_for_the_same_actor(
    client: TestClient, kind: str, method: str, path: str
) -> None:
    visitor = await Visitor.signed_in(client, Role.ADMIN)
    limit: WorkLimit = getattr(client.server.app[WORK_LIMITS], kind)

    async def status() -> int:
        return (await visitor.post(path, {})).status if method == "POST" else (await visitor.get(path))[0]

    with limit.running("ada"):
        refused = await status() if kind == "verifications" else 429
    assert (refused, await status()) == (429, 200)


async def test_eleventh_event_stream_of_an_actor_is_refused(client: TestClient) -> None:
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    headers = {"Cookie": f"{COOKIE}={visitor.cookie}"}
    streams = [await client.get("/console/now/live", headers=headers) for _ in range(11)]
    assert [stream.status for stream in streams] == [200] * 10 + [429]
    for stream in streams:
        stream.close()
    async with asyncio.timeout(40):
        while (again := await client.get("/console/now/live", headers=headers)).status != 200:  # noqa: ASYNC110 - the server notices the end of a stream at its next update
            await asyncio.sleep(0.1)
    again.close()
