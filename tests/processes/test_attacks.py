"""Attacks through Redis, through requests to the web process, and through values that people read.

Signatures, replays and bytes that are not HTTP are tested in test_signature, test_hostile_traffic and `make fuzz`.
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
import zstandard
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.workers import creation_event, fill_queue
from spokes.audit.archiver import Archiver
from spokes.audit.stream import append
from spokes.console.export import _csv_lines
from spokes.core.delivery import encode
from spokes.core.redis.keys import AUDIT_STREAM, JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.queue.quarantine import Quarantine
from spokes.simulator.app import Simulator
from tests.support.deployment import KEY, PUBLIC_URL, ROOT, SECRET, Sign
from tests.support.events import batch, event, record, recorded

ESCAPE = "\x1b[2J\x1b]0;owned\x07"


class Touch:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def foreign_jobs(proof: Path) -> dict[str, bytes]:
    """Return job payloads that are not deliveries, by id; a loaded pickle creates the file `proof`."""
    good = encode({"t": None, "f": "process_delivery", "a": [{"id": "x", "portal": 1, "at": 1, "events": []}] * 20})
    empty: dict[str, object] = {"t": None, "f": "process_delivery", "k": {}, "et": 1}
    return {
        "pickle": pickle.dumps(Touch(proof)),
        "arq's own pickle": pickle.dumps({"t": 1, "f": "process_delivery", "a": (Touch(proof),), "k": {}, "et": 1}),
        "truncated": good[: len(good) // 2],
        "a bomb": good[:1] + zstandard.compress(b" " * (200 * 1024 * 1024)),
        "an old bomb": b"\x02" + zlib.compress(b" " * (100 * 1024 * 1024)),
        "another function": encode({**empty, "f": "os.system", "a": ["true"]}),
        "no argument": encode({**empty, "a": []}),
        "no delivery": encode({**empty, "a": [{"id": {"a": 1}, "portal": "x", "at": None, "events": 7}]}),
        "no event": encode({**empty, "a": [{"id": "1-1-1", "portal": 1, "at": 1, "events": [["k", 0, {}]]}]}),
        "deep": b"\x01" + b"[" * 100_000,
        "an id\nwith lines": b"\x01" + b'{"level": "critical"}',
        "": b"",
        "%s{}[red]" + ESCAPE: b"\x00",
    }


@pytest.mark.slow
async def test_foreign_jobs_are_stored_and_reported_and_stop_no_worker(
    redis: Redis, environ: dict[str, str], hubspot: Simulator, tmp_path: Path
) -> None:
    proof = tmp_path / "executed"
    jobs = foreign_jobs(proof)
    for name, payload in jobs.items():
        await redis.set(JOB_KEY_PREFIX + name, payload)
        await redis.zadd(JOB_QUEUE, {name: 1})
    await redis.zadd(JOB_QUEUE, {"no job at all": 1})
    await fill_queue(redis, 10, 10, creation_event)
    env = {**os.environ, **environ, "HANDLERS": "bench.handlers.noop", "HUBSPOT_API_URL": hubspot.url}
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", "--burst", cwd=ROOT, env=env, stderr=asyncio.subprocess.PIPE
    )
    _, log = await worker.communicate()
    lines = [orjson.loads(line) for line in log.splitlines()]
    unreadable = [line["job_id"] for line in lines if line["event"] == "unreadable_delivery"]
    assert worker.returncode == 0, log
    assert not proof.exists()
    assert await redis.zcard(JOB_QUEUE) == 0
    quarantine = Quarantine.from_settings(redis, Settings.from_env(environ))
    kept = [content for portal in await quarantine.portals() async for content in quarantine.list(portal)]
    assert len(kept) == len(jobs) + 1 == len(unreadable)
    assert "uncaught" not in {line["event"] for line in lines}


async def test_foreign_stream_entries_stop_no_archiver(redis: Redis, engine: AsyncEngine) -> None:
    for fields in ({"r": pickle.dumps(1)}, {"x": b"y"}, {"r": b'{"action":"event","at":"x"}'}, {"r": b"[" * 100_000}):
        await redis.xadd(AUDIT_STREAM, fields)  # type: ignore[arg-type]  # redis-py wants an invariant dictionary
    assert await Archiver(redis, engine, KEY).drain() == 4


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1+1", "@SUM(1)", "\t=1", "\r=1"])
def test_exported_cell_is_not_a_formula(cell: str) -> None:
    ((text, number),) = csv.reader(io.StringIO(_csv_lines(((cell, -5),)).decode(), newline=""))
    assert (text, number) == ("'" + cell, "-5")


def run_audit(command: list[str], database_url: str) -> "subprocess.CompletedProcess[bytes]":
    env = {**os.environ, "AUDIT_KEY": KEY, "DATABASE_URL": database_url}
    args = [sys.executable, "-m", "spokes", "audit", *command]
    return subprocess.run(args, cwd=ROOT, capture_output=True, check=True, env=env)


@pytest.mark.slow
async def test_escape_sequences_in_names_do_not_reach_a_terminal(
    redis: Redis, engine: AsyncEngine, database_url: str
) -> None:
    pipeline = redis.pipeline()
    append(pipeline, record(1, object_id=ESCAPE + "[red]", subscription_type=f"contact.{ESCAPE}\nnew line"))
    await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()
    for command in (["query"], ["export", "--format", "jsonl"], ["export", "--format", "csv"]):
        output = (await asyncio.to_thread(run_audit, command, database_url)).stdout
        assert b"owned" in output
        assert b"\x1b" not in output
        assert b"\x07" not in output


@pytest.fixture
async def web(environ: dict[str, str], redis: Redis) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Return a web process and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, **environ, "PORT": port, "HOST": "127.0.0.1", "LOG_FORMAT": "json"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingest", cwd=ROOT, env=env, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(50):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(port))
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
    yield process, int(port)
    if process.returncode is None:
        process.kill()
    await process.wait()


async def send(port: int, request: bytes) -> bytes:
    """Send bytes; return the first line of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(50):
        status_line = await reader.readline()
    writer.close()
    return status_line


def post(body: bytes, headers: dict[str, str], *extra: bytes) -> bytes:
    lines = [b"POST /webhooks/hubspot HTTP/1.1", b"Host: hooks.example.com", *extra]
    lines += [f"{name}: {value}".encode() for name, value in headers.items()]
    return b"\r\n".join((*lines, b"", body))


async def test_malformed_or_ambiguous_headers_are_refused(
    web: tuple[asyncio.subprocess.Process, int], sign: Sign, redis: Redis
) -> None:
    body, (_, port) = batch(event()), web
    headers, length = sign(body), f"Content-Length: {len(body)}".encode()
    folded = {**headers, "X-HubSpot-Signature-v3": headers["X-HubSpot-Signature-v3"][:9] + "\r\n " + "x"}
    v3 = f"X-HubSpot-Signature-v3: {headers['X-HubSpot-Signature-v3']}".encode()
    requests = {
        "two lengths": post(body, headers, length, b"Content-Length: 0"),
        "length and chunks": post(b"0\r\n\r\n" + body, headers, length, b"Transfer-Encoding: chunked"),
        "unknown transfer encoding": post(body, headers, length, b"Transfer-Encoding: xchunked"),
        "two signatures": post(body, headers, length, v3),
        "folded": post(body, folded, length),
        "not ascii": post(body, {**headers, "X-HubSpot-Signature-v3": "\u00e9" * 44}, length),
        "blank in a name": post(body, headers, length, b"X-HubSpot-Signature-v3 : x"),
        "downgraded": post(body, {n: v for n, v in headers.items() if "v3" not in n}, length),
    }
    statuses = {name: (await send(port, request))[9:12] for name, request in requests.items()}
    assert {name for name, status in statuses.items() if status not in {b"400", b"401"}} == set(), statuses
    assert await redis.zcard(JOB_QUEUE) == 0
    assert (await send(port, post(body, headers, length)))[9:12] == b"202"


async def test_requests_cannot_inject_log_lines(
    web: tuple[asyncio.subprocess.Process, int], sign: Sign, redis: Redis
) -> None:
    line = '\n{"level": "critical", "event": "owned"}\r\n\x1b[31m\u2028'
    body = batch(
        event(1, subscriptionType=f"contact.creation{line}", propertyName=line, changeSource=line, sourceId=line),
        event(2, eventId=line), event(3, objectId=line), event(4, occurredAt=line), line,
    )  # fmt: skip
    process, port = web
    length = f"Content-Length: {len(body)}".encode()
    assert (await send(port, post(body, sign(body), length)))[9:12] == b"202"
    await send(port, post(body, {**sign(body), "X-HubSpot-Signature-v3": "\x1b[31mowned"}, length))
    await send(port, b"POST /webhooks/hubspot?" + b"%0Aowned HTTP/1.1\r\nHost: x\r\n\r\n")
    process.terminate()
    _, log = await process.communicate()
    lines = [orjson.loads(line) for line in log.splitlines()]  # all of them are JSON
    assert {line["level"] for line in lines if line["event"] != "elements_quarantined"} <= {"info", "warning"}
    assert "owned" not in {line["event"] for line in lines}
    assert b"\x1b" not in log
    assert (SECRET.encode() in log, PUBLIC_URL.encode() + b"?" in log) == (False, False)
    heads = await recorded(redis)
    assert heads[0].action == "delivery.received"
