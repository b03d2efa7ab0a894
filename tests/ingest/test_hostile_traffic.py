"""The web process under hostile traffic: faults that bench/fuzz.py once found, and a short run of it."""

import asyncio
import contextlib
import gzip
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import web
from redis.asyncio import Redis

from ingest.app import create_app
from ingest.server.http_server import app_runner
from spokes.core.redis.keys import AUDIT_STREAM, JOB_QUEUE
from spokes.core.settings import Settings
from tests.ingest.conftest import PATH
from tests.support.deployment import PUBLIC_URL, ROOT, Sign
from tests.support.events import batch, event


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[int]:
    """Serve as a process of its own would; yield the port."""
    runner = app_runner(create_app(settings), graceful_s=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture
async def port(settings: Settings, redis: Redis) -> AsyncIterator[int]:
    """The port of a web process with an empty Redis."""
    async with serving(settings) as port:
        yield port


async def send(port: int, *pieces: bytes) -> int:
    """Send pieces, a moment apart; return the status of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(40):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.02)
            head = b"HTTP/1.1 100"
            while head.startswith(b"HTTP/1.1 100"):
                head = await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)
    return int(head[9:12])


def post_request(headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: hooks.example.com",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def deliver(port: int, sign: Sign, body: bytes, **headers: str) -> int:
    """Send a signed request; return the status of the response."""
    return await send(port, post_request({**sign(body), "Content-Length": str(len(body)), **headers}, body))


async def test_connection_whose_first_head_trickles_in_is_closed(environ: dict[str, str], redis: Redis) -> None:
    async with serving(Settings.from_env({**environ, "BODY_TIMEOUT_S": "0.3"})) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"POST /webhooks/hubspot HTTP/1.1\r\nHost: ho")
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        finally:
            writer.transport.abort()


async def test_connection_with_a_request_may_idle_longer_than_a_head_may_take(
    environ: dict[str, str], redis: Redis
) -> None:
    async with serving(Settings.from_env({**environ, "BODY_TIMEOUT_S": "1"})) as port:
        active = await asyncio.open_connection("127.0.0.1", port)
        silent = await asyncio.open_connection("127.0.0.1", port)
        try:
            for number in range(2):
                active[1].write(b"GET /healthz HTTP/1.1\r\nHost: hooks.example.com\r\n\r\n")
                async with asyncio.timeout(20):
                    assert (await active[0].readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
                    if number == 0:  # wait until the connection without a request is closed
                        with contextlib.suppress(ConnectionError):
                            assert await silent[0].read() == b""
        finally:
            active[1].transport.abort()
            silent[1].transport.abort()


async def test_body_of_malformed_elements_does_not_fill_the_audit(port: int, sign: Sign, redis: Redis) -> None:
    assert await deliver(port, sign, b"[" + b"0," * 50_000 + b"0]") == 202
    records = [orjson.loads(fields[b"r"]) for _, fields in await redis.xrange(AUDIT_STREAM)]
    head = next(record for record in records if record["action"] == "delivery.received")
    aggregate = next(record for record in records if record.get("reason") == "and_more")
    assert (len(records), head["detail"]["set_aside"]) == (102, 50_001)
    assert aggregate["detail"] == {"events": 49_901, "reasons": {"not_an_object": 49_901}}


@pytest.mark.parametrize("value", [[], {}, [1], {"a": 1}, 7, True])
async def test_property_name_of_any_type_does_not_hold_up_its_batch(
    port: int, sign: Sign, redis: Redis, value: object
) -> None:
    assert await deliver(port, sign, batch(event(1), event(2, propertyName=value))) == 202
    assert await redis.zcard(JOB_QUEUE) == 1


@pytest.mark.parametrize("category", [[], {}, {"a": [1]}])
async def test_association_category_of_any_type_does_not_hold_up_its_batch(
    environ: dict[str, str], sign: Sign, redis: Redis, category: object
) -> None:
    ends = {"fromObjectId": 1, "toObjectId": 2, "associationType": "CONTACT_TO_COMPANY"}
    odd = event(2, subscriptionType="contact.associationChange", associationCategory=category, **ends)
    async with serving(Settings.from_env({**environ, "ALLOWED_EVENTS": "contact.associationChange"})) as port:
        assert await deliver(port, sign, batch(event(1), odd)) == 202
    assert await redis.zcard(JOB_QUEUE) == 1


async def test_element_nested_too_deep_is_quarantined(port: int, sign: Sign, redis: Redis) -> None:
    body = b"[" + batch(event(1))[1:-1] + b"," + batch(event(2))[1:-2] + b',"x":' + b"[" * 500 + b"]" * 500 + b"}]"
    assert await deliver(port, sign, body) == 202
    assert await redis.zcard(JOB_QUEUE) == 1


async def test_compressed_body_is_not_decompressed(port: int, sign: Sign, redis: Redis) -> None:
    compressed = gzip.compress(batch(event(1)))
    assert await deliver(port, sign, compressed, **{"Content-Encoding": "gzip"}) == 400
    assert await deliver(port, sign, b"no gzip", **{"Content-Encoding": "gzip"}) == 400
    assert await redis.zcard(JOB_QUEUE) == 0


@pytest.mark.parametrize(
    "credentials", [b"Bearer \xff\xfe", "Bearer ümlaut".encode("latin-1"), b"Bearer \xed\xa0\x80", b"\xff"]
)
async def test_credentials_of_any_bytes_do_not_open_the_metrics(
    environ: dict[str, str], redis: Redis, credentials: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Settings.from_env({**environ, "METRICS_TOKEN": "metrics-token-3f6d0c2e"})) as port:
        request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: " + credentials + b"\r\n\r\n"
        assert await send(port, request) == 401
    assert caplog.records == []


async def test_invalid_chunks_are_a_bad_request(port: int, sign: Sign, caplog: pytest.LogCaptureFixture) -> None:
    head = post_request({**sign(b"[]"), "Transfer-Encoding": "chunked"})
    assert await send(port, head + b"zz\r\n[]\r\n0\r\n\r\n") == 400
    assert not caplog.records


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nA b: c\r\n\r\n", b"X" * 70_000])
async def test_bytes_that_are_not_http_leave_no_line_in_the_log(
    port: int, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await send(port, sent) == 400
    assert not caplog.records


async def test_connect_without_a_target_is_answered(port: int, caplog: pytest.LogCaptureFixture) -> None:
    assert await send(port, b"CONNECT  \r\nHost: hooks.example.com\r\n\r\n") == 404
    assert not caplog.records


@pytest.mark.parametrize("expectation", ["\xff", "unheard-of", "100-continue", "100-Continue"])
async def test_request_with_any_expectation_is_handled(port: int, sign: Sign, expectation: str) -> None:
    body = batch(event(1))
    request = post_request({**sign(body), "Content-Length": str(len(body)), "Expect": expectation}, body)
    assert await send(port, request.replace("\xff".encode(), b"\xff")) == 202


@pytest.mark.slow
def test_web_process_withstands_a_short_run_of_hostile_traffic() -> None:
    command = [sys.executable, "bench/fuzz.py", "--requests", "1500", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{PUBLIC_URL}: {done.stdout}{done.stderr}"
