"""ingest.server.delivery_connection: requests as bytes on a real connection of the web process."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any, cast

import orjson
import pytest
from aiohttp.web_protocol import RequestHandler
from redis.asyncio import Redis
from structlog.testing import capture_logs

from ingest.server.delivery_connection import DeliveryConnection
from ingest.server.request_wrapper import RequestWrapper
from spokes.core.redis.keys import JOB_QUEUE, quarantine_index
from spokes.core.settings import Settings
from spokes.queue.quarantine import NO_PORTAL
from tests.ingest.test_hostile_traffic import post_request, serving
from tests.support.deployment import Sign
from tests.support.events import batch, event
from tests.support.waiting import until


@pytest.fixture
async def port(settings: Settings, redis: Redis) -> AsyncIterator[int]:
    """The port of a web process with an empty Redis."""
    async with serving(settings) as port:
        yield port


@pytest.fixture
def by_aiohttp(monkeypatch: pytest.MonkeyPatch) -> list[RequestHandler]:
    """The connections for whose requests aiohttp's way was taken, in order."""
    taken: list[RequestHandler] = []
    original = RequestHandler._handle_request

    async def record(self: RequestHandler, *args: Any) -> Any:
        taken.append(self)
        return await original(self, *args)

    monkeypatch.setattr(RequestHandler, "_handle_request", record)
    return taken


class Sender:
    """A connection to the web process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next response."""
        async with asyncio.timeout(40):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return int(lines[0].split()[1]), headers, body

    async def is_closed(self) -> bool:
        """Whether the other side closes the connection without sending more."""
        async with asyncio.timeout(40):
            return await self._reader.read() == b""


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Sender]:
    sender = Sender(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield sender
    finally:
        sender.writer.transport.abort()
        await asyncio.sleep(0)


def delivery(sign: Sign, *numbers: int, **headers: str) -> bytes:
    """Return a signed request with the events of these numbers."""
    body = batch(*map(event, numbers))
    return post_request({**sign(body), "Content-Length": str(len(body)), **headers}, body)


async def test_common_delivery_needs_no_request_object(
    port: int, sign: Sign, redis: Redis, by_aiohttp: list[RequestHandler]
) -> None:
    async with connected(port) as sender:
        for number in range(3):
            sender.writer.write(delivery(sign, number))
            status, headers, body = await sender.response()
            assert (status, orjson.loads(body)["admitted"], len(headers["x-request-id"])) == (202, 1, 16)
    assert await redis.zcard(JOB_QUEUE) == 3
    assert by_aiohttp == []


async def test_delivery_that_comes_before_the_task_of_its_connection_needs_no_request_object(
    port: int, sign: Sign, by_aiohttp: list[RequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RequestHandler.connection_made

    def begin(self: RequestHandler, transport: asyncio.BaseTransport) -> None:
        original(self, transport)
        request = delivery(sign, 1)
        self.data_received(request[:700])
        self.data_received(request[700:])

    monkeypatch.setattr(RequestHandler, "connection_made", begin)
    async with connected(port) as sender:
        assert (await sender.response())[0] == 202
    assert by_aiohttp == []


@pytest.mark.parametrize(("is_soon", "logged"), [(True, []), (False, [("request", "sender_gone")])])
async def test_sender_that_disconnects_before_its_incomplete_delivery_is_read_is_no_error(
    settings: Settings, sign: Sign, monkeypatch: pytest.MonkeyPatch, is_soon: bool, logged: list[tuple[str, str]]
) -> None:
    original = RequestHandler.connection_made

    def begin(self: RequestHandler, made: asyncio.BaseTransport) -> None:
        original(self, made)
        transport = cast("asyncio.Transport", made)
        self.data_received(delivery(sign, 1)[:-10])
        if is_soon:
            transport.abort()
        else:
            asyncio.get_running_loop().call_soon(transport.abort)

    monkeypatch.setattr(RequestHandler, "connection_made", begin)
    async with serving(settings) as port:
        before = asyncio.all_tasks()
        with capture_logs() as logs:
            async with connected(port) as sender:
                with contextlib.suppress(ConnectionResetError):
                    await sender.is_closed()
            async with asyncio.timeout(40):
                while asyncio.all_tasks() - before:  # noqa: ASYNC110 - seen from outside
                    await asyncio.sleep(0.01)
    assert [(line["event"], line.get("reason")) for line in logs] == logged


async def test_delivery_that_comes_right_after_another_response_needs_no_request_object(
    port: int, sign: Sign, by_aiohttp: list[RequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RequestHandler._handle_request

    async def handle(self: RequestHandler, *args: Any) -> Any:
        result = await original(self, *args)
        asyncio.get_running_loop().call_soon(self.data_received, delivery(sign, 1))  # before its task is woken
        return result

    monkeypatch.setattr(RequestHandler, "_handle_request", handle)
    async with connected(port) as sender:
        sender.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [(await sender.response())[0] for _ in range(2)] == [200, 202]
    assert len(by_aiohttp) == 1


async def test_requests_that_do_not_wait_for_responses_are_answered_in_order(
    port: int, sign: Sign, redis: Redis
) -> None:
    async with connected(port) as sender:
        sender.writer.write(delivery(sign, 1) + delivery(sign, 2, 3) + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0)
        sender.writer.write(delivery(sign, 4, 5, 6))
        responses = [await sender.response() for _ in range(4)]
    assert [status for status, _, _ in responses] == [202, 202, 200, 202]
    admitted = [orjson.loads(responses[at][2])["admitted"] for at in (0, 1, 3)]
    assert admitted == [1, 2, 3]


async def test_request_that_arrives_during_a_delivery_is_answered_after_it(port: int, sign: Sign) -> None:
    async with connected(port) as sender:
        sender.writer.write(delivery(sign, 1))
        await asyncio.sleep(0.001)
        sender.writer.write(delivery(sign, 2) + b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [(await sender.response())[0] for _ in range(3)] == [202, 202, 404]


async def test_many_requests_at_once_are_all_answered(port: int, sign: Sign, redis: Redis) -> None:
    async with connected(port) as sender:
        sender.writer.write(b"".join(delivery(sign, number) for number in range(100)))
        assert {(await sender.response())[0] for _ in range(100)} == {202}


@pytest.mark.parametrize("cut", [1, 20, 150, -1])
async def test_delivery_in_two_pieces_is_accepted(port: int, sign: Sign, cut: int) -> None:
    request = delivery(sign, 1)
    async with connected(port) as sender:
        for piece in (request[:cut], request[cut:]):
            sender.writer.write(piece)
            await asyncio.sleep(0.02)
        assert (await sender.response())[0] == 202


async def test_known_events_are_counted_and_the_connection_stays_open(port: int, sign: Sign) -> None:
    async with connected(port) as sender:
        counts = []
        for request in (delivery(sign, 1), delivery(sign, 1), delivery(sign, 1, 2), delivery(sign, 3)):
            sender.writer.write(request)
            body = orjson.loads((await sender.response())[2])
            counts.append((body["admitted"], body["duplicate"]))
    assert counts == [(1, 0), (0, 1), (1, 1), (1, 0)]


async def test_refused_delivery_leaves_the_connection_usable(port: int, sign: Sign) -> None:
    async with connected(port) as sender:
        statuses = []
        for headers in ({"X-HubSpot-Signature-v3": "A" * 44}, {"Content-Type": "text/plain"}, {}):
            sender.writer.write(delivery(sign, 1, **headers))
            statuses.append((await sender.response())[0])
    assert statuses == [401, 415, 202]


async def test_signed_request_of_another_content_type_is_kept_and_refused(port: int, sign: Sign, redis: Redis) -> None:
    async with connected(port) as sender:
        sender.writer.write(delivery(sign, 1, **{"Content-Type": "text/plain"}))
        assert (await sender.response())[0] == 415
    assert await redis.zcard(quarantine_index(NO_PORTAL)) == 1


async def test_unusual_body_is_admitted_with_one_verification(
    port: int, sign: Sign, redis: Redis, by_aiohttp: list[RequestHandler]
) -> None:
    body = batch(event(1), {"subscriptionType": "contact.creation"})
    async with connected(port) as sender:
        sender.writer.write(post_request({**sign(body), "Content-Length": str(len(body))}, body))
        status, _, answer = await sender.response()
    assert (status, orjson.loads(answer)["admitted"], orjson.loads(answer)["quarantined"]) == (202, 1, 1)
    assert len(by_aiohttp) == 1


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
async def test_connection_is_closed_after_the_response_if_the_sender_asks_for_it(
    port: int, sign: Sign, version: str
) -> None:
    request = delivery(sign, 1, Connection="close").replace(b"HTTP/1.1", version.encode(), 1)
    async with connected(port) as sender:
        sender.writer.write(request)
        assert (await sender.response())[0] == 202
        assert await sender.is_closed()


async def test_sender_that_disconnects_leaves_no_task_and_no_request_in_flight(
    settings: Settings, redis: Redis, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrappers: list[RequestWrapper] = []
    original = RequestWrapper.begin

    def begin(self: RequestWrapper) -> Any:
        wrappers.append(self)
        return original(self)

    monkeypatch.setattr(RequestWrapper, "begin", begin)
    async with serving(settings) as port:
        before = asyncio.all_tasks()
        for number in range(20):
            async with connected(port) as sender:
                sender.writer.write(delivery(sign, number))
                await asyncio.sleep(0.001)
        async with asyncio.timeout(40):
            while wrappers[0].in_flight or len(asyncio.all_tasks() - before):  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
    assert len(wrappers) == 20


@pytest.mark.parametrize("path", [b"/webhooks/hubspot", b"/healthz"])
async def test_sender_that_disconnects_as_the_task_of_its_connection_is_woken_is_no_error(
    settings: Settings, sign: Sign, monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    """The task would handle the request without a server, and the request would be in flight without end."""
    wrappers: list[RequestWrapper] = []
    receive, begin = DeliveryConnection._receive, RequestWrapper.begin

    def disconnect(self: DeliveryConnection, data: bytes) -> None:
        receive(self, data)
        self.connection_lost(None)

    def record(self: RequestWrapper) -> Any:
        wrappers.append(self)
        return begin(self)

    monkeypatch.setattr(DeliveryConnection, "_receive", disconnect)
    monkeypatch.setattr(RequestWrapper, "begin", record)
    async with serving(settings) as port:
        before, failures = asyncio.all_tasks(), []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        refused = delivery(sign, 1, **{"X-HubSpot-Signature-v3": "forged"}).replace(b"/webhooks/hubspot", path, 1)
        async with connected(port) as sender:
            sender.writer.write(refused)
            with contextlib.suppress(ConnectionResetError):
                assert await sender.is_closed()
        await until(lambda: not asyncio.all_tasks() - before)
        gc.collect()  # tells of the exceptions of tasks
    assert failures == []
    assert [wrapper.in_flight for wrapper in wrappers] == [0] * len(wrappers)


async def test_path_that_only_begins_like_the_receivers_is_not_found(port: int, sign: Sign) -> None:
    async with connected(port) as sender:
        sender.writer.write(delivery(sign, 1).replace(b" HTTP/1.1", b"s HTTP/1.1", 1))
        assert (await sender.response())[0] == 404


async def test_bytes_after_a_delivery_that_are_no_request_are_refused(port: int, sign: Sign) -> None:
    async with connected(port) as sender:
        sender.writer.write(delivery(sign, 1))
        assert (await sender.response())[0] == 202
        sender.writer.write(b"POST /webhooks/hubspot \x00\x01\r\n\r\n")
        assert (await sender.response())[0] == 400
        assert await sender.is_closed()
