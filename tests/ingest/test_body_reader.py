"""ingest.body_reader: bodies take a bounded amount of memory together, and unsigned ones are not read."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from ingest.body_reader import BodyReader
from spokes.core.errors import QueueUnavailable, RejectedRequest
from tests.ingest.conftest import PATH
from tests.support.deployment import sign_headers
from tests.support.waiting import until

KB = 1024


class BodyServer:
    """A server that reads bodies with a total of 1 MB, and how each read ended."""

    def __init__(self) -> None:
        self.reader = BodyReader(timeout_s=5, trusted_proxies=1, max_total_bytes=1_000 * KB)
        self.reading = 0
        app = web.Application()
        app.router.add_post("/", self.read)
        self.server = TestServer(app)

    async def read(self, request: web.Request) -> web.Response:
        """Answer with the length of the body, or the reason why it was not read."""
        self.reading += 1
        try:
            return web.Response(text=str(len(await self.reader.read(request, 900 * KB))))
        except (QueueUnavailable, RejectedRequest) as error:
            return web.Response(status=503, text=str(error.reason))
        finally:
            self.reading -= 1


@pytest.fixture
async def bodies() -> AsyncIterator[tuple[BodyServer, TestClient]]:
    """A running server and a client."""
    server = BodyServer()
    async with TestClient(server.server) as client:
        yield server, client


async def send(client: TestClient, *pieces: bytes, until: asyncio.Event | None = None, address: str = "1.1.1.1") -> str:
    """Send a chunked body, with a wait before its last piece; return the text of the response."""

    async def pieces_in_turn() -> AsyncIterator[bytes]:
        for piece in pieces[:-1]:
            yield piece
        if until is not None:
            await until.wait()
        yield pieces[-1]

    async with client.post("/", data=pieces_in_turn(), headers={"X-Forwarded-For": address}) as response:
        return await response.text()


async def test_body_arrives_unchanged_in_length(bodies: tuple[BodyServer, TestClient]) -> None:
    assert await send(bodies[1], b"a" * 300 * KB, b"b") == str(300 * KB + 1)


async def test_one_client_may_use_half_of_the_total_and_others_are_not_affected(
    bodies: tuple[BodyServer, TestClient],
) -> None:
    _, client = bodies
    end = asyncio.Event()
    held = [asyncio.create_task(send(client, b"a" * 350 * KB, b"b", until=end)) for _ in range(5)]
    done, _ = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in done} == {"too_many_bodies"}
    assert await send(client, b"a" * 350 * KB, b"b", address="2.2.2.2") == str(350 * KB + 1)
    assert await send(client, b"small") == "5"
    await until(lambda: sum(task.done() for task in held) == 4)
    end.set()
    results = await asyncio.gather(*held)
    assert results.count("too_many_bodies") == 4
    assert await send(client, b"a" * 350 * KB, b"b") == str(350 * KB + 1)


async def test_total_holds_for_all_clients_together(bodies: tuple[BodyServer, TestClient]) -> None:
    _, client = bodies
    end = asyncio.Event()
    held = [
        asyncio.create_task(send(client, b"a" * 350 * KB, b"b", until=end, address=f"1.1.1.{number}"))
        for number in range(5)
    ]
    await until(lambda: sum(task.done() for task in held) == 3)
    end.set()
    assert sorted(await asyncio.gather(*held))[2:] == ["too_many_bodies"] * 3


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-HubSpot-Signature-v3": "A" * 44},
        {"X-HubSpot-Signature-v3": "A" * 43, "X-HubSpot-Request-Timestamp": "0"},
        {**sign_headers(b"", at_ms=1)},
    ],
)
async def test_body_without_signature_and_recent_timestamp_is_refused_before_it_arrives(
    client: TestClient, headers: dict[str, str]
) -> None:
    async def endless_body() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.sleep(20)

    async with asyncio.timeout(15), client.post(PATH, data=endless_body(), headers=headers) as response:
        assert response.status == 401


async def test_rest_of_a_large_refused_body_is_not_read(client: TestClient) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    size = 10 * KB * KB
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Length: {size}\r\n\r\n".encode())
    writer.write(b" " * size)
    async with asyncio.timeout(40):
        assert (await reader.readline())[9:12] == b"401"
        assert writer.transport.get_write_buffer_size() > 0  # type: ignore[attr-defined]  # asyncio types less than it has
        with pytest.raises(ConnectionError):
            await writer.drain()  # the server closes the connection
    writer.transport.abort()
