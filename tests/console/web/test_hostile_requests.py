"""Malformed requests to every route of console and API, without and with an account: a 4xx, and no error is logged."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from structlog.testing import capture_logs

from bench.fuzzing.console_cases import console_request
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from spokes.console.web.app_keys import SETTINGS
from tests.support.console_visitor import Visitor, running_console

SEED = 11
REQUESTS = 600


def routes_of(client: TestClient) -> list[tuple[str, str]]:
    """Return method and path of every route, the stream left out: it does not end."""
    return [
        (route.method, route.resource.canonical)
        for route in client.server.app.router.routes()
        if route.resource is not None and not route.resource.canonical.endswith("/live")
    ]


async def exchange(client: TestClient, request: bytes) -> int:
    """Send the bytes of a request; return the status of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    try:
        async with asyncio.timeout(40):
            writer.write(request)
            return int((await reader.readline())[9:12])
    finally:
        writer.transport.abort()


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis, migrated_store: None) -> AsyncIterator[TestClient]:
    """The console with an empty audit store; an actor may send any number of requests."""
    unreachable = "http://127.0.0.1:9"
    async with running_console(
        environ, CONSOLE_RATE_LIMIT="100000", PUBLIC_URL=unreachable, HUBSPOT_API_URL=unreachable
    ) as client:
        yield client


@pytest.mark.parametrize("account", ["", "session", "token"])
async def test_malformed_requests_are_refused_without_an_error(client: TestClient, account: str) -> None:
    visitor = await Visitor.signed_in(client, *Role)
    token = ApiTokens.from_settings(client.server.app[SETTINGS]).mint("robot", list(Role)).token
    credentials = {
        "": [],
        "session": [(b"Cookie", f"{COOKIE}={visitor.cookie}".encode()), (b"X-CSRF-Token", visitor.csrf.encode())],
        "token": [(b"Authorization", f"Bearer {token}".encode())],
    }[account]
    routes = [route for route in routes_of(client) if account != "session" or "logout" not in route[1]]
    statuses: Counter[int] = Counter()
    with capture_logs() as lines:
        for number in range(REQUESTS):
            request = console_request(SEED, number, routes, credentials)
            status = await exchange(client, request)
            statuses[status] += 1
            assert status < 500 or status == 503, request
    assert [line for line in lines if line["log_level"] in {"error", "critical"}] == []
    assert statuses[400] > 20
    assert statuses[503] < REQUESTS / 20


@pytest.mark.parametrize(
    "headers",
    [
        b"Origin: http://[\r\n",
        b"Authorization: Bearer \xff\xfe\r\n",
        b"Content-Type: application/x-www-form-urlencoded; charset=unheard-of\r\nSec-Fetch-Site: same-origin\r\n",
        b"Content-Type: multipart/form-data\r\nSec-Fetch-Site: same-origin\r\n",
        b"Content-Encoding: gzip\r\nSec-Fetch-Site: same-origin\r\n",
    ],
)
@pytest.mark.parametrize("path", [b"/console/login", b"/api/v1/dead-letters/replay"])
async def test_malformed_header_is_a_4xx(client: TestClient, headers: bytes, path: bytes) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n"
    with capture_logs() as lines:
        assert 400 <= await exchange(client, head + headers + b"\r\nname=\xff\xfe%f") < 500
    assert [line for line in lines if line["log_level"] == "error"] == []


async def test_log_lines_of_strangers_are_limited(client: TestClient) -> None:
    with capture_logs() as lines:
        for _ in range(400):
            async with client.get("/console/login") as response:
                assert response.status == 200
            async with client.post("/console/login", data={"name": "ada"}) as response:
                assert response.status == 403
    assert 0 < len(lines) <= 2 * (300 + 100)  # both limits, over at most two minutes


async def test_accounts_are_logged_beyond_the_limit_of_strangers(client: TestClient) -> None:
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    for _ in range(320):
        async with client.get("/console/login"):
            pass
    with capture_logs() as lines:
        await visitor.get("/console/dead")
    assert [line["actor"] for line in lines if line["event"] == "console_request"] == ["ada"]
