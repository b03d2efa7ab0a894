"""Values and secrets planted wherever one can come in, and looked for wherever one could come out."""

import asyncio
import gzip
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis

from spokes.core.redis.keys import ALERT_OUTBOX, AUDIT_STREAM, JOB_KEY_PREFIX, JOB_QUEUE
from tests.support.deployment import PUBLIC_URL, ROOT, Sign, sign_headers
from tests.support.events import batch, event
from tests.support.scripted_hubspot import RecordedRequest, ScriptedHubSpot, batch_response, json_response

MAIL, PHONE = "canary.mail@example.com", "+14155550199"
TOKEN, SECRET, AUDIT_KEY = "canarytoken-7f3a9c", "canarysecret-1b2c3d4e", "canaryauditkey-5d6e"
PLANTED = re.compile(rb"canary|4155550199", re.IGNORECASE)
VALUES_BELONG = ("arq:job:", ":dead:", "spokes:unreadable")  # what waits, what died, and what nobody can read

pytestmark = pytest.mark.timeout(150)  # it waits for whole processes


def refuses(asked: RecordedRequest) -> web.Response:
    """A HubSpot that repeats what it was given in every answer, as its validation errors do."""
    if asked.path.endswith("/batch/read"):
        return batch_response(asked, email=MAIL, firstname="Canaryname", phone=PHONE)
    if asked.method == "GET" or "access-token" in asked.path:
        return json_response({"hubId": 50112233, "portalId": 50112233, "scopes": [], "user": MAIL}, X_Canary="canary")
    told = f"Property values were not valid: {MAIL}, Canaryname"
    return json_response(
        {"status": "error", "message": told, "category": "VALIDATION_ERROR", "correlationId": "11-22", "context": told},
        400,
        X_Echo="canaryheader",
    )


@dataclass
class Run:
    """What came out of one run, by place."""

    places: dict[str, bytes] = field(default_factory=dict)

    def found(self) -> dict[str, bytes]:
        """The places where something planted stands, each with its surroundings."""
        return {
            place: data[max(0, match.start() - 80) : match.end() + 40]
            for place, data in self.places.items()
            if (match := PLANTED.search(data))
        }


class _Ingest(BaseHTTPRequestHandler):
    received: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def sentry() -> Iterator[tuple[str, list[bytes]]]:
    """A local endpoint that plays Sentry: its address, and what it got."""
    received: list[bytes] = []
    server = HTTPServer(("127.0.0.1", 0), type("Ingest", (_Ingest,), {"received": received}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://key@127.0.0.1:{server.server_port}/1", received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def run(valkey_url: str, tmp_path_factory: pytest.TempPathFactory, sentry: tuple[str, list[bytes]]) -> Run:
    """Web and worker at work on planted values, until all is done and both have ended."""
    dsn, envelopes = sentry
    data = tmp_path_factory.mktemp("data")
    environ = {
        **os.environ,
        "HUBSPOT_CLIENT_SECRET": SECRET,
        "HUBSPOT_ACCESS_TOKEN": TOKEN,
        "PUBLIC_URL": PUBLIC_URL,
        "REDIS_URL": valkey_url,
        "DATA_DIR": str(data),
        "AUDIT_KEY": AUDIT_KEY,
        "SENTRY_DSN": dsn,
        "ALERT_WEBHOOK_URL": dsn.replace("key@", "").rpartition("/")[0] + "/alerts",
        "ALERT_WEBHOOK_SECRET": "canary-of-the-webhook",
        "LOG_LEVEL": "DEBUG",
        "HANDLERS": "tests.support.handlers.talkative",
        "PYTHONPATH": str(ROOT),
        "RETRY_SCHEDULE_S": "0.05,0.05",
        "HOST": "127.0.0.1",
        "PORT": "0",
    }
    return asyncio.run(_run(environ, valkey_url, data, envelopes, sign_headers))


async def _run(environ: dict[str, str], valkey_url: str, data: Path, envelopes: list[bytes], sign: Sign) -> Run:
    result = Run()
    async with Redis.from_url(valkey_url) as redis, ScriptedHubSpot(refuses) as hubspot:
        await redis.flushall()
        await redis.xadd(AUDIT_STREAM, {b"r": f"not a record of {MAIL}".encode()})
        await redis.set(f"{JOB_KEY_PREFIX}strange", f"not a job of {MAIL}")
        await redis.zadd(JOB_QUEUE, {"strange": 1})
        environ = {**environ, "HUBSPOT_API_URL": hubspot.url, "PORT": str(_free_port())}
        result.places["log of migrate"] = await _said(environ, "migrate")
        await _work(environ, redis, sign, result)
        for form in ("jsonl", "csv"):
            result.places[f"export as {form}"] = await _said(environ, "audit", "export", "--format", form)
        result.places["verify"] = await _said(environ, "audit", "verify", "--json")
        result.places |= {f"file {file.name}": file.read_bytes() for file in [*data.iterdir()]}  # noqa: ASYNC240 - nobody else is waiting
        result.places["Sentry"] = b"\n".join(envelopes)
        result.places |= await _redis_dump(redis)
    return result


async def _work(environ: dict[str, str], redis: Redis, sign: Sign, result: Run) -> None:
    """Run web and worker until all is done; take their logs, and the page of metrics."""
    processes = [await _spawn(environ, "ingest"), await _spawn(environ, "workers")]
    logs = [asyncio.create_task(process.communicate()) for process in processes]
    base = f"http://127.0.0.1:{environ['PORT']}"
    try:
        async with aiohttp.ClientSession() as session:
            await _until(lambda: _ready(session, base))
            await _knock(session, base, sign)
            await _until(lambda: _idle(redis))
            async with session.get(f"{base}/metrics") as page:
                result.places["/metrics"] = await page.read()
    finally:
        for process in processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        said = [b"".join(await log) for log in logs]
    result.places["log of web"], result.places["log of worker"] = said


async def _knock(session: aiohttp.ClientSession, base: str, sign: Sign) -> None:
    """Deliveries that are good, forged, unreadable, and half readable, with something planted in every part."""
    odd = {
        "X-Canary": "canaryheader", "User-Agent": "HubSpot canaryagent", "Cookie": "s=canarycookie",
        "Authorization": "Bearer canarybearer", "X-Request-Id": "canaryrequest",
    }  # fmt: skip
    uri = f"{PUBLIC_URL}/webhooks/hubspot?who=canaryquery"
    people = [
        event(n, subscriptionType="contact.propertyChange", propertyName=name, propertyValue=value, sourceId=MAIL)
        for n, (name, value) in enumerate(
            [("firstname", "Canaryname"), ("email", MAIL), ("lastname", "Canarylast"), ("city", "Canarycity")]
        )
    ]
    good = batch(*people, event(9, canaryfield="canaryextra"), {"portalId": "canaryportal"}, "canarytext")
    forged = batch(event(10, objectId=5, sourceId="canaryforged"))
    broken = b'[{"email": "canary.broken@example.com"'
    headers = [
        {**sign(good, uri=uri, secret=SECRET), **odd},
        {**sign(forged, uri=uri, secret="canaryguess-12345"), **odd, "X-HubSpot-Signature-v3": "canarysignature"},
        {**sign(broken, uri=uri, secret=SECRET), **odd},
    ]
    for body, given in zip((good, forged, broken), headers, strict=True):
        async with session.post(f"{base}/webhooks/hubspot?who=canaryquery", data=body, headers=given) as answer:
            await answer.read()


async def _spawn(environ: dict[str, str], module: str, *arguments: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", module, *arguments)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ, stdout=pipe, stderr=pipe)


async def _said(environ: dict[str, str], *arguments: str) -> bytes:
    """What a command of the console prints."""
    return b"".join(await (await _spawn(environ, "spokes", *arguments)).communicate())


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float = 45.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def _ready(session: aiohttp.ClientSession, base: str) -> bool:
    try:
        async with session.get(f"{base}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _idle(redis: Redis) -> bool:
    """Three events have died, nothing waits, the audit is in its store, and all alerts are sent."""
    dead = await redis.zcard("spokes:50112233:dead")
    waits = await redis.zcard(JOB_QUEUE) + await redis.xlen(AUDIT_STREAM) + await redis.llen(ALERT_OUTBOX)
    return dead == 3 and not waits


async def _redis_dump(redis: Redis) -> dict[str, bytes]:
    """Every key that should hold no value, raw, by name."""
    places = {}
    async for name in redis.scan_iter(count=1000):
        if not any(word in name.decode() for word in VALUES_BELONG):
            read = {b"string": redis.get, b"hash": redis.hgetall, b"set": redis.smembers, b"stream": redis.xrange}
            kind = await redis.type(name)
            ranges = {b"zset": redis.zrange, b"list": redis.lrange}
            value = await (ranges[kind](name, 0, -1) if kind in ranges else read[kind](name))
            places[f"Redis: {name.decode()}"] = name + b" " + repr(value).encode()
    return places


def _free_port() -> int:
    import socket  # noqa: PLC0415 - for this alone

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nothing_planted_comes_out_anywhere(run: Run) -> None:
    assert run.found() == {}


def test_everything_planted_went_the_whole_way(run: Run) -> None:
    """The run that is searched is one in which events were worked off, refused, retried and died."""
    exported = run.places["export as jsonl"]
    words = [b'"outcome":"processed"', b'"outcome":"dead"', b'"outcome":"retried"', b'"outcome":"quarantined"']
    words += [b'"action":"crm.write"', b'"action":"stream.unreadable"', b"handler_error:ValueError", b"invalid_request"]
    assert [word for word in words if word not in exported] == []
    assert b"ValueError" in run.places["Sentry"]
    groups = set(re.findall(rb'"fingerprint":(\["talkative[^]]*\])', run.places["Sentry"]))
    assert groups == {
        b'["talkative.raises","ValueError"]',
        b'["talkative.refused_by_hubspot","InvalidRequest"]',
        b'["talkative.retried","ConnectionError"]',
    }
    assert b'"alert":"unreadable_delivery"' in run.places["Sentry"]  # the webhook's messages come to the same place
    assert [word in run.places["log of worker"] for word in (b"LookupError", b"python_warning")] == [True, True]
    assert b'"event":"event","process":"worker","level":"debug"' in run.places["log of worker"]
    assert b'"intact":true' in run.places["verify"]
    assert b"signature_malformed" in run.places["log of web"]
