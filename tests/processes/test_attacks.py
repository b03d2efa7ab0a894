"""Attacks from three sides: what lies in Redis, what is sent to the door, and values that aim at whoever reads them.

Signatures, replays and bytes that are not HTTP have files of their own: test_signature, test_door_hostile, make fuzz.
"""

import asyncio
import csv
import io
import os
import pickle
import socket
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from backports import zstd
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.workers import fill, raw
from spokes.audit.archiver import Archiver
from spokes.audit.stream import append
from spokes.console.export import _csv_lines
from spokes.core.delivery import AUDIT_STREAM, JOB_KEY_PREFIX, JOB_QUEUE, encode
from spokes.core.redis import keys
from tests.support.deployment import KEY, PUBLIC_URL, ROOT, SECRET, Sign
from tests.support.events import batch, event, record, recorded

ESCAPE = "\x1b[2J\x1b]0;owned\x07"


class Touch:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def poison(proof: Path) -> dict[str, bytes]:
    """Jobs that are none of ours, by id."""
    good = encode({"t": None, "f": "process_delivery", "a": [{"id": "x", "portal": 1, "at": 1, "events": []}] * 20})
    nothing: dict[str, object] = {"t": None, "f": "process_delivery", "k": {}, "et": 1}
    return {
        "pickle": pickle.dumps(Touch(proof)),
        "arq's own pickle": pickle.dumps({"t": 1, "f": "process_delivery", "a": (Touch(proof),), "k": {}, "et": 1}),
        "cut short": good[: len(good) // 2],
        "a bomb": good[:1] + zstd.compress(b" " * (200 * 1024 * 1024)),
        "a bomb of old": b"\x02" + zlib.compress(b" " * (100 * 1024 * 1024)),
        "another function": encode({**nothing, "f": "os.system", "a": ["true"]}),
        "no argument": encode({**nothing, "a": []}),
        "no delivery": encode({**nothing, "a": [{"id": {"a": 1}, "portal": "x", "at": None, "events": 7}]}),
        "no event": encode({**nothing, "a": [{"id": "1-1-1", "portal": 1, "at": 1, "events": [["k", 0, {}]]}]}),
        "deep": b"\x01" + b"[" * 100_000,
        "an id\nwith lines": b"\x01" + b'{"level": "critical"}',
        "": b"",
        "%s{}[red]" + ESCAPE: b"\x00",
    }


@pytest.mark.timeout(120)
async def test_poisoned_queue_is_put_aside_and_told_of_and_ends_no_worker(
    redis: Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    proof = tmp_path / "executed"
    jobs = poison(proof)
    for name, payload in jobs.items():
        await redis.set(JOB_KEY_PREFIX + name, payload)
        await redis.zadd(JOB_QUEUE, {name: 1})
    await redis.zadd(JOB_QUEUE, {"no job at all": 1})
    await fill(redis, 10, 10, raw)
    env = {**os.environ, **environ, "HANDLERS": "bench.handlers.noop", "HUBSPOT_API_URL": "http://127.0.0.1:9"}
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", "--burst", cwd=ROOT, env=env, stderr=asyncio.subprocess.PIPE
    )
    _, said = await worker.communicate()
    lines = [orjson.loads(line) for line in said.splitlines()]
    put_aside = [line["job_id"] for line in lines if line["event"] == "unreadable_delivery"]
    assert worker.returncode == 0, said
    assert not proof.exists()
    assert await redis.zcard(JOB_QUEUE) == 0
    assert await redis.llen(keys.UNREADABLE_JOBS) == len(jobs) + 1 == len(put_aside)
    assert "uncaught" not in {line["event"] for line in lines}


async def test_poisoned_stream_and_ledgers_end_no_archiver(redis: Redis, engine: AsyncEngine) -> None:
    for fields in ({"r": pickle.dumps(1)}, {"x": b"y"}, {"r": b'{"action":"event","at":"x"}'}, {"r": b"[" * 100_000}):
        await redis.xadd(AUDIT_STREAM, fields)  # type: ignore[arg-type]  # redis-py wants an invariant dictionary
    assert await Archiver(redis, engine, KEY).drain() == 4


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1+1", "@SUM(1)", "\t=1", "\r=1"])
def test_cell_of_an_export_is_no_formula(cell: str) -> None:
    ((found, number),) = csv.reader(io.StringIO(_csv_lines(((cell, -5),)).decode(), newline=""))
    assert (found, number) == ("'" + cell, "-5")


def ask(command: list[str], database_url: str) -> "subprocess.CompletedProcess[bytes]":
    env = {**os.environ, "AUDIT_KEY": KEY, "DATABASE_URL": database_url}
    words = [sys.executable, "-m", "spokes", "audit", *command]
    return subprocess.run(words, cwd=ROOT, capture_output=True, check=True, env=env)


async def test_hostile_names_reach_a_terminal_without_their_escapes(
    redis: Redis, engine: AsyncEngine, database_url: str
) -> None:
    pipeline = redis.pipeline()
    append(pipeline, record(1, object_id=ESCAPE + "[red]", subscription_type=f"contact.{ESCAPE}\nnew line"))
    await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()
    for command in (["query"], ["export", "--format", "jsonl"], ["export", "--format", "csv"]):
        said = (await asyncio.to_thread(ask, command, database_url)).stdout
        assert b"owned" in said
        assert b"\x1b" not in said
        assert b"\x07" not in said


@pytest.fixture
async def door(environ: dict[str, str], redis: Redis) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A web process, and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, **environ, "PORT": port, "HOST": "127.0.0.1", "LOG_FORMAT": "json"}
    web = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingest", cwd=ROOT, env=env, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(port))
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
    yield web, int(port)
    if web.returncode is None:
        web.kill()
    await web.wait()


async def knock(port: int, request: bytes) -> bytes:
    """Send bytes, return the status line that comes first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.readline()
    writer.close()
    return answer


def post(body: bytes, headers: dict[str, str], *extra: bytes) -> bytes:
    lines = [b"POST /webhooks/hubspot HTTP/1.1", b"Host: hooks.example.com", *extra]
    lines += [f"{name}: {value}".encode() for name, value in headers.items()]
    return b"\r\n".join((*lines, b"", body))


async def test_header_tricks_do_not_get_past_the_door(
    door: tuple[asyncio.subprocess.Process, int], sign: Sign, redis: Redis
) -> None:
    body, (_, port) = batch(event()), door
    headers, length = sign(body), f"Content-Length: {len(body)}".encode()
    folded = {**headers, "X-HubSpot-Signature-v3": headers["X-HubSpot-Signature-v3"][:9] + "\r\n " + "x"}
    v3 = f"X-HubSpot-Signature-v3: {headers['X-HubSpot-Signature-v3']}".encode()
    tricks = {
        "two lengths": post(body, headers, length, b"Content-Length: 0"),
        "length and chunks": post(b"0\r\n\r\n" + body, headers, length, b"Transfer-Encoding: chunked"),
        "chunks spelled oddly": post(body, headers, length, b"Transfer-Encoding: xchunked"),
        "two signatures": post(body, headers, length, v3),
        "folded": post(body, folded, length),
        "not ascii": post(body, {**headers, "X-HubSpot-Signature-v3": "\u00e9" * 44}, length),
        "blank in a name": post(body, headers, length, b"X-HubSpot-Signature-v3 : x"),
        "downgraded": post(body, {n: v for n, v in headers.items() if "v3" not in n}, length),
    }
    statuses = {name: (await knock(port, request))[9:12] for name, request in tricks.items()}
    assert {name for name, status in statuses.items() if status not in {b"400", b"401"}} == set(), statuses
    assert await redis.zcard(JOB_QUEUE) == 0
    assert (await knock(port, post(body, headers, length)))[9:12] == b"202"


async def test_nothing_that_is_sent_makes_a_line_of_the_log(
    door: tuple[asyncio.subprocess.Process, int], sign: Sign, redis: Redis
) -> None:
    line = '\n{"level": "critical", "event": "owned"}\r\n\x1b[31m\u2028'
    body = batch(
        event(1, subscriptionType=f"contact.creation{line}", propertyName=line, changeSource=line, sourceId=line),
        event(2, eventId=line), event(3, objectId=line), event(4, occurredAt=line), line,
    )  # fmt: skip
    web, port = door
    length = f"Content-Length: {len(body)}".encode()
    assert (await knock(port, post(body, sign(body), length)))[9:12] == b"202"
    await knock(port, post(body, {**sign(body), "X-HubSpot-Signature-v3": "\x1b[31mowned"}, length))
    await knock(port, b"POST /webhooks/hubspot?" + b"%0Aowned HTTP/1.1\r\nHost: x\r\n\r\n")
    web.terminate()
    _, said = await web.communicate()
    lines = [orjson.loads(line) for line in said.splitlines()]  # each is one of ours
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert "owned" not in {line["event"] for line in lines}
    assert b"\x1b" not in said
    assert (SECRET.encode() in said, PUBLIC_URL.encode() + b"?" in said) == (False, False)
    heads = await recorded(redis)
    assert heads[0].action == "delivery.received"
