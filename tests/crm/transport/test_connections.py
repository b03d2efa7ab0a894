"""Connections to HubSpot and servers that break HTTP's customs, over real sockets."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from spokes.core.errors import CRMUnavailable
from spokes.crm.transport.client import HubSpotClient

Respond = Callable[[asyncio.StreamWriter, str], Awaitable[None]]
THREADS = 2


def response(path: str, status: str = "200 OK") -> bytes:
    body = b'{"id":"%s"}' % path.encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spokes.crm.transport.client._GRACE_S", 0.1)


@asynccontextmanager
async def client_of(respond: Respond) -> AsyncIterator[HubSpotClient]:
    """Yield a client of a server that answers paths below /odd by `respond`, and others with their path."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
                if path.startswith("/odd"):
                    await respond(writer, path)
                else:
                    writer.write(response(path))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = HubSpotClient(api_url=f"http://127.0.0.1:{port}", token="t", timeout_s=1.0, concurrency=THREADS)
    try:
        yield client
    finally:
        await client.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()


async def send_slowly(writer: asyncio.StreamWriter, data: bytes) -> None:
    for start in range(len(data)):
        writer.write(data[start : start + 1])
        await writer.drain()
        await asyncio.sleep(0.05)


async def slow_head(writer: asyncio.StreamWriter, path: str) -> None:
    await send_slowly(writer, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 2_000)


async def slow_error(writer: asyncio.StreamWriter, path: str) -> None:
    writer.write(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 2000\r\n\r\n")
    await send_slowly(writer, b" " * 2_000)


async def slow_chunk_size(writer: asyncio.StreamWriter, path: str) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")
    await send_slowly(writer, b"a" * 2_000)


async def slow_gzip(writer: asyncio.StreamWriter, path: str) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
    await send_slowly(writer, gzip.compress(bytes(2_000_000)))


@pytest.mark.parametrize("respond", [slow_head, slow_error, slow_chunk_size, slow_gzip])
async def test_slow_responses_keep_no_thread(respond: Respond) -> None:
    async with client_of(respond) as client:
        slow = [client.call("GET", f"/odd/{number}") for number in range(THREADS)]
        assert {type(error) for error in await asyncio.gather(*slow, return_exceptions=True)} == {CRMUnavailable}
        assert [(await client.call("GET", f"/{number}")).data for number in range(THREADS + 1)] == [
            {"id": f"/{number}"} for number in range(THREADS + 1)
        ]


@pytest.mark.parametrize("status", ["102 Processing", "103 Early Hints"])
async def test_interim_response_is_not_the_response(status: str) -> None:
    async def respond(writer: asyncio.StreamWriter, path: str) -> None:
        writer.write(f"HTTP/1.1 {status}\r\nLink: </a>\r\n\r\n".encode())
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(response(path))

    async with client_of(respond) as client:
        assert [(await client.call("GET", path)).data for path in ("/odd", "/next")] == [
            {"id": "/odd"}, {"id": "/next"},
        ]  # fmt: skip


async def test_error_without_end_is_read_in_part_and_keeps_its_status() -> None:
    sent = 0

    async def respond(writer: asyncio.StreamWriter, path: str) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>")
        while sent < 1 << 28:
            writer.write(b"x" * (1 << 16))
            sent += 1 << 16
            await writer.drain()

    async with client_of(respond) as client:
        with pytest.raises(CRMUnavailable) as raised:
            await client.call("GET", "/odd")
        assert raised.value.status == 502
        assert (await client.call("GET", "/next")).data == {"id": "/next"}
    assert sent < 1 << 26


async def test_abandoned_call_frees_its_thread() -> None:
    async with client_of(slow_head) as client:
        for number in range(THREADS):
            call = asyncio.create_task(client.call("GET", f"/odd/{number}"))
            await asyncio.sleep(0.05)
            call.cancel()
        await asyncio.sleep(1.1)
        assert (await client.call("GET", "/next")).data == {"id": "/next"}
