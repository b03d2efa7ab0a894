"""ingest.server.connection_limits: who must make room for a new connection, and that HubSpot never has to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from redis.asyncio import Redis

from ingest.app import create_app
from ingest.server.connection_limits import ConnectionLimits, max_connections, max_console_requests
from ingest.server.http_server import app_runner
from ingest.server.views import CONNECTION_LIMITS
from spokes.core.redis.keys import ALERT_OUTBOX
from spokes.core.settings import Settings
from tests.support.deployment import sign_headers
from tests.support.events import batch, event
from tests.support.waiting import until


def test_oldest_idle_connection_of_the_same_client_makes_room() -> None:
    limits = ConnectionLimits[str](8, counts_clients=True)
    assert limits.open("other", "2.2.2.2") is None
    limits.busy.add("a")
    assert [limits.open(name, "1.1.1.1") for name in "abcd"] == [None, None, "b", "c"]


def test_busy_connection_makes_room_if_none_is_idle() -> None:
    limits = ConnectionLimits[str](8, counts_clients=True)
    limits.busy.update("abc")
    assert [limits.open(name, "1.1.1.1") for name in "abc"] == [None, None, "a"]


def test_total_is_kept_by_the_client_with_the_most_connections() -> None:
    limits = ConnectionLimits[str](8, counts_clients=True)
    assert [limits.open(f"{number}", f"1.1.1.{number}") for number in range(7)] == [None] * 7
    assert limits.open("7", "1.1.1.1") is None
    assert limits.open("8", "1.1.1.9") == "1"


def test_connection_with_a_signed_request_is_never_closed() -> None:
    limits = ConnectionLimits[str](8, counts_clients=True)
    limits.open("signed", "1.1.1.1")
    limits.prove("signed")
    closed = [limits.open(f"{number}", "1.1.1.1") for number in range(20)]
    assert "signed" not in closed
    assert closed[2:] == [f"{number}" for number in range(18)]


def test_addresses_of_one_ipv6_subscriber_share_a_limit() -> None:
    limits = ConnectionLimits[str](8, counts_clients=True)
    assert [limits.open(f"{number}", f"2001:db8::{number}") for number in range(3)] == [None, None, "0"]


def test_proxy_may_hold_all_connections() -> None:
    limits = ConnectionLimits[int](8, counts_clients=False)
    assert [limits.open(number, "10.0.0.1") for number in range(9)] == [None] * 8 + [0]


def test_closed_connection_leaves_nothing_behind() -> None:
    limits = ConnectionLimits[str](8, counts_clients=True)
    for _ in range(3):
        for name in "abc":
            limits.open(name, "1.1.1.1")
            limits.prove("a")
            limits.close(name)
    assert [value for value in vars(limits).values() if isinstance(value, dict | set) and value] == []


@pytest.mark.parametrize("files", [256, 512, 1_024, 4_096, 1_000_000])
def test_limits_leave_a_reserve_of_open_files(files: int) -> None:
    assert max_connections(files) + max_console_requests(files) + 50 <= files


@pytest.fixture
async def runner(settings: Settings, redis: Redis) -> AsyncIterator[web.AppRunner]:
    """A web process that holds 40 connections, ten of one client."""
    app = create_app(settings)
    app[CONNECTION_LIMITS] = ConnectionLimits(40, counts_clients=True)
    runner = app_runner(app, graceful_s=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner
    await runner.cleanup()


async def test_deliveries_are_accepted_while_one_client_opens_many_connections(
    runner: web.AppRunner, redis: Redis
) -> None:
    port = runner.addresses[0][1]
    honest = await asyncio.open_connection("127.0.0.1", port)
    assert await deliver(honest, 1) == 202
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    late = await asyncio.open_connection("127.0.0.1", port)
    assert (await deliver(honest, 2), await deliver(late, 3)) == (202, 202)
    assert runner.server is not None
    assert len(runner.server.connections) <= 13
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(idle[0][0].read(), 40) == b""

    async def is_reported() -> bool:
        return b"too_many_connections" in b"".join(await redis.lrange(ALERT_OUTBOX, 0, -1))  # type: ignore[misc]  # redis-py types one class for sync and async

    await until(is_reported)
    for _, writer in (*idle, honest, late):
        writer.transport.abort()


async def deliver(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], number: int) -> int:
    """Send a signed request on an open connection; return the status of the response."""
    reader, writer = connection
    body = batch(event(number))
    headers = {**sign_headers(body), "Host": "hooks.example.com", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /webhooks/hubspot HTTP/1.1\r\n{head}\r\n".encode() + body)
    async with asyncio.timeout(40):
        response = await reader.readuntil(b"\r\n\r\n")
        length = int(response.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        await reader.readexactly(length)
    return int(response[9:12])
