"""The door under hostile traffic: what bench/fuzz.py found once, and a short run of it."""

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
from spokes.core.delivery import AUDIT_STREAM, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.intake.admission import Admission
from spokes.intake.body_parser import parse_json, split_events
from spokes.intake.classification import ClassifiedDelivery
from tests.support.deployment import PUBLIC_URL, ROOT, Sign
from tests.support.events import batch, event

PATH = "/webhooks/hubspot"


@pytest.fixture
async def port(settings: Settings, redis: Redis) -> AsyncIterator[int]:
    """The door as a process of its own would serve it."""
    runner = app_runner(create_app(settings), graceful_s=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def talk(port: int, *pieces: bytes) -> int:
    """Send pieces, a moment apart; return the status of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(5):
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


def wire(headers: dict[str, str], body: bytes = b"", path: str = PATH) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: hooks.example.com",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def deliver(port: int, sign: Sign, body: bytes, **headers: str) -> int:
    return await talk(port, wire({**sign(body), "Content-Length": str(len(body)), **headers}, body))


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


async def test_connection_whose_first_head_trickles_in_is_closed(environ: dict[str, str], redis: Redis) -> None:
    runner = app_runner(create_app(Settings.from_env({**environ, "BODY_TIMEOUT_S": "0.3"})), graceful_s=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
    try:
        writer.write(b"POST /webhooks/hubspot HTTP/1.1\r\nHost: ho")
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
    finally:
        writer.transport.abort()
        await runner.cleanup()


async def test_connection_that_was_heard_may_idle_longer_than_a_head_may_take(
    environ: dict[str, str], redis: Redis
) -> None:
    runner = app_runner(create_app(Settings.from_env({**environ, "BODY_TIMEOUT_S": "0.01"})), graceful_s=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    heard, silent = await asyncio.open_connection("127.0.0.1", port), await asyncio.open_connection("127.0.0.1", port)
    try:
        for turn in range(2):
            heard[1].write(b"GET /healthz HTTP/1.1\r\nHost: hooks.example.com\r\n\r\n")
            async with asyncio.timeout(20):
                assert (await heard[0].readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
                if turn == 0:  # until one that was not heard has been closed
                    with contextlib.suppress(ConnectionError):
                        assert await silent[0].read() == b""
    finally:
        heard[1].transport.abort()
        silent[1].transport.abort()
        await runner.cleanup()


async def test_body_of_nothing_but_bad_elements_does_not_fill_the_audit(port: int, sign: Sign, redis: Redis) -> None:
    assert await deliver(port, sign, b"[" + b"0," * 50_000 + b"0]") == 202
    told = [orjson.loads(fields[b"r"]) for _, fields in await redis.xrange(AUDIT_STREAM)]
    head = next(one for one in told if one["action"] == "delivery.received")
    rest = next(one for one in told if one.get("reason") == "and_more")
    assert (len(told), head["detail"]["set_aside"]) == (102, 50_001)
    assert rest["detail"] == {"events": 49_901, "reasons": {"not_an_object": 49_901}}


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
    settings = Settings.from_env({**environ, "ALLOWED_EVENTS": "contact.associationChange"})
    runner = app_runner(create_app(settings), graceful_s=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    ends = {"fromObjectId": 1, "toObjectId": 2, "associationType": "CONTACT_TO_COMPANY"}
    odd = event(2, subscriptionType="contact.associationChange", associationCategory=category, **ends)
    try:
        assert await deliver(runner.addresses[0][1], sign, batch(event(1), odd)) == 202
    finally:
        await runner.cleanup()
    assert await redis.zcard(JOB_QUEUE) == 1


async def test_element_too_deep_to_be_written_again_is_set_aside(port: int, sign: Sign, redis: Redis) -> None:
    body = b"[" + batch(event(1))[1:-1] + b"," + batch(event(2))[1:-2] + b',"x":' + b"[" * 500 + b"]" * 500 + b"}]"
    assert await deliver(port, sign, body) == 202
    assert await redis.zcard(JOB_QUEUE) == 1


@pytest.mark.parametrize(("levels", "quarantined"), [(150, 0), (198, 0), (199, 1), (240, 1)])
def test_depth_counts_from_the_element(levels: int, quarantined: int) -> None:
    body = batch(event(1, sourceId=nested(levels)), *(event(number) for number in range(2, 100)))
    assert len(split_events(parse_json(body), body).malformed) == quarantined


async def test_fault_in_one_group_answers_all_that_wait_for_it(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    admission = Admission(redis, dedupe_ttl_s=100_000)

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(admission, "_send", broken)
    waits = []
    for number in (1, 2):
        loop = asyncio.get_running_loop()
        waits.append(answer := loop.create_future())
        admission._pending.append(type("Waiting", (), {"words": [], "events": number, "answer": answer})())
    await admission._drain()
    for answer in waits:
        with pytest.raises(ZeroDivisionError):
            answer.result()


async def test_delivery_that_comes_while_both_calls_end_is_not_left_waiting(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    admission, gate = Admission(redis, dedupe_ttl_s=100_000), asyncio.Event()

    async def call(group: list[object]) -> list[list[int]]:
        await gate.wait()
        return [[] for _ in group]

    monkeypatch.setattr(admission, "_call", call)
    arrivals = [ClassifiedDelivery(f"1-{number}", 1, 0, [], [], []) for number in range(3)]

    async def late() -> None:
        await gate.wait()
        await admission.admit(arrivals[2])

    admissions = []
    for work in (admission.admit(arrivals[0]), admission.admit(arrivals[1]), late()):
        admissions.append(asyncio.create_task(work))
        await asyncio.sleep(0.01)  # each has reached the gate before the next
    gate.set()
    async with asyncio.timeout(2):
        await asyncio.gather(*admissions)


async def test_packed_body_is_judged_as_it_came(port: int, sign: Sign, redis: Redis) -> None:
    packed = gzip.compress(batch(event(1)))
    assert await deliver(port, sign, packed, **{"Content-Encoding": "gzip"}) == 400
    assert await deliver(port, sign, b"no gzip", **{"Content-Encoding": "gzip"}) == 400
    assert await redis.zcard(JOB_QUEUE) == 0


async def test_chunks_that_are_none_are_a_bad_request(port: int, sign: Sign, caplog: pytest.LogCaptureFixture) -> None:
    head = wire({**sign(b"[]"), "Transfer-Encoding": "chunked"})
    assert await talk(port, head + b"zz\r\n[]\r\n0\r\n\r\n") == 400
    assert not caplog.records


@pytest.mark.parametrize("bytes_", [b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nA b: c\r\n\r\n", b"X" * 70_000])
async def test_bytes_that_are_not_http_leave_no_line_in_the_log(
    port: int, caplog: pytest.LogCaptureFixture, bytes_: bytes
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await talk(port, bytes_) == 400
    assert not caplog.records


async def test_connect_without_a_target_is_answered(port: int, caplog: pytest.LogCaptureFixture) -> None:
    assert await talk(port, b"CONNECT  \r\nHost: hooks.example.com\r\n\r\n") == 404
    assert not caplog.records


@pytest.mark.parametrize("expectation", ["\xff", "unheard-of", "100-continue", "100-Continue"])
async def test_any_expectation_is_judged_by_its_request(port: int, sign: Sign, expectation: str) -> None:
    body = batch(event(1))
    whole = wire({**sign(body), "Content-Length": str(len(body)), "Expect": expectation}, body)
    assert await talk(port, whole.replace("\xff".encode(), b"\xff")) == 202


@pytest.mark.timeout(120)
def test_short_run_of_hostile_traffic_leaves_the_door_as_it_was() -> None:
    command = [sys.executable, "bench/fuzz.py", "--requests", "1500", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{PUBLIC_URL}: {done.stdout}{done.stderr}"
