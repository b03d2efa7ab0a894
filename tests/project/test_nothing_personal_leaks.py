"""Plant values and secrets in every input of a deployment, and search all of its outputs for them."""

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
from tests.support.free_ports import free_port
from tests.support.hubspot.scripted_hubspot import RecordedRequest, ScriptedHubSpot, batch_response, json_response

MAIL, PHONE = "canary.mail@example.com", "+14155550199"
TOKEN, SECRET, AUDIT_KEY = "canarytoken-7f3a9c", "canarysecret-1b2c3d4e", "canaryauditkey-5d6e"
PLANTED = re.compile(rb"canary|4155550199", re.IGNORECASE)
KEYS_WITH_VALUES = ("spokes:job:", ":dead:", "spokes:unreadable")  # queued jobs, dead letters, unreadable jobs

pytestmark = pytest.mark.slow  # starts several processes


def refuse_with_echo(request: RecordedRequest) -> web.Response:
    """Respond like a HubSpot that repeats values in every response, as its validation errors do."""
    if request.path.endswith("/batch/read"):
        return batch_response(request, email=MAIL, firstname="Canaryname", phone=PHONE)
    if request.method == "GET" or "access-token" in request.path:
        return json_response({"hubId": 50112233, "portalId": 50112233, "scopes": [], "user": MAIL}, X_Canary="canary")
    message = f"Property values were not valid: {MAIL}, Canaryname"
    return json_response(
        {
            "status": "error",
            "message": message,
            "category": "VALIDATION_ERROR",
            "correlationId": "11-22",
            "context": message,
        },
        400,
        X_Echo="canaryheader",
    )


@dataclass
class Outputs:
    """The outputs of one run, by name."""

    by_name: dict[str, bytes] = field(default_factory=dict)

    def leaks(self) -> dict[str, bytes]:
        """Return the outputs that contain something planted, each cut to the text around it."""
        return {
            name: data[max(0, match.start() - 80) : match.end() + 40]
            for name, data in self.by_name.items()
            if (match := PLANTED.search(data))
        }


class _SentryEndpoint(BaseHTTPRequestHandler):
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
    """A local endpoint in Sentry's place: its address, and the requests it receives."""
    received: list[bytes] = []
    server = HTTPServer(("127.0.0.1", 0), type("Ingest", (_SentryEndpoint,), {"received": received}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://key@127.0.0.1:{server.server_port}/1", received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def outputs(valkey_url: str, tmp_path_factory: pytest.TempPathFactory, sentry: tuple[str, list[bytes]]) -> Outputs:
    """Run web process and worker on planted values until everything is processed; collect all outputs."""
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
        "OUTAGE_RETRY_HOURS": "0",
        "HOST": "127.0.0.1",
        "PORT": "0",
    }
    return asyncio.run(_collect_outputs(environ, valkey_url, data, envelopes, sign_headers))


async def _collect_outputs(
    environ: dict[str, str], valkey_url: str, data: Path, envelopes: list[bytes], sign: Sign
) -> Outputs:
    outputs = Outputs()
    async with Redis.from_url(valkey_url) as redis, ScriptedHubSpot(refuse_with_echo) as hubspot:
        await redis.flushall()
        await redis.xadd(AUDIT_STREAM, {b"r": f"not a record of {MAIL}".encode()})
        await redis.set(f"{JOB_KEY_PREFIX}strange", f"not a job of {MAIL}")
        await redis.zadd(JOB_QUEUE, {"strange": 1})
        environ = {**environ, "HUBSPOT_API_URL": hubspot.url, "PORT": str(free_port())}
        outputs.by_name["log of migrate"] = await _output_of(environ, "migrate")
        await _process_deliveries(environ, redis, sign, outputs)
        for form in ("jsonl", "csv"):
            outputs.by_name[f"export as {form}"] = await _output_of(environ, "audit", "export", "--format", form)
        outputs.by_name["verify"] = await _output_of(environ, "audit", "verify", "--json")
        outputs.by_name |= {f"file {file.name}": file.read_bytes() for file in data.rglob("*") if file.is_file()}  # noqa: ASYNC240 - no other task runs
        outputs.by_name["Sentry"] = b"\n".join(envelopes)
        outputs.by_name |= await _redis_dump(redis)
    return outputs


async def _process_deliveries(environ: dict[str, str], redis: Redis, sign: Sign, outputs: Outputs) -> None:
    """Run web process and worker until everything is processed; collect their logs and the metrics page."""
    processes = [await _spawn(environ, "ingest"), await _spawn(environ, "workers")]
    logs = [asyncio.create_task(process.communicate()) for process in processes]
    base = f"http://127.0.0.1:{environ['PORT']}"
    try:
        async with aiohttp.ClientSession() as session:
            await _wait_until(lambda: _is_ready(session, base))
            await _send_deliveries(session, base, sign)
            await _wait_until(lambda: _is_idle(redis))
            async with session.get(f"{base}/metrics") as page:
                outputs.by_name["/metrics"] = await page.read()
    finally:
        for process in processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        web_log, worker_log = [b"".join(await log) for log in logs]
    outputs.by_name |= {"log of web": web_log, "log of worker": worker_log}


async def _send_deliveries(session: aiohttp.ClientSession, base: str, sign: Sign) -> None:
    """Send valid, forged, unreadable and partly readable deliveries, with something planted in every part."""
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
    valid = batch(*people, event(9, canaryfield="canaryextra"), {"portalId": "canaryportal"}, "canarytext")
    forged = batch(event(10, objectId=5, sourceId="canaryforged"))
    broken = b'[{"email": "canary.broken@example.com"'
    headers = [
        {**sign(valid, uri=uri, secret=SECRET), **odd},
        {**sign(forged, uri=uri, secret="canaryguess-12345"), **odd, "X-HubSpot-Signature-v3": "canarysignature"},
        {**sign(broken, uri=uri, secret=SECRET), **odd},
    ]
    for body, request_headers in zip((valid, forged, broken), headers, strict=True):
        async with session.post(
            f"{base}/webhooks/hubspot?who=canaryquery", data=body, headers=request_headers
        ) as response:
            await response.read()


async def _spawn(environ: dict[str, str], module: str, *arguments: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", module, *arguments)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ, stdout=pipe, stderr=pipe)


async def _output_of(environ: dict[str, str], *arguments: str) -> bytes:
    """Return what a command prints."""
    return b"".join(await (await _spawn(environ, "spokes", *arguments)).communicate())


async def _wait_until(condition: Callable[[], Awaitable[bool]], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def _is_ready(session: aiohttp.ClientSession, base: str) -> bool:
    try:
        async with session.get(f"{base}/readyz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def _is_idle(redis: Redis) -> bool:
    """Return whether three events are dead, the queue is empty, the audit is archived and all alerts are sent."""
    dead = await redis.zcard("spokes:50112233:dead")
    remaining = await redis.zcard(JOB_QUEUE) + await redis.xlen(AUDIT_STREAM) + await redis.llen(ALERT_OUTBOX)
    return dead == 3 and not remaining


async def _redis_dump(redis: Redis) -> dict[str, bytes]:
    """Return every key that should hold no property value, with its content."""
    dump = {}
    async for name in redis.scan_iter(count=1000):
        if not any(part in name.decode() for part in KEYS_WITH_VALUES):
            read = {b"string": redis.get, b"hash": redis.hgetall, b"set": redis.smembers, b"stream": redis.xrange}
            kind = await redis.type(name)
            if kind == b"none":  # it has expired since
                continue
            ranges = {b"zset": redis.zrange, b"list": redis.lrange}
            value = await (ranges[kind](name, 0, -1) if kind in ranges else read[kind](name))
            dump[f"Redis: {name.decode()}"] = name + b" " + repr(value).encode()
    return dump


def test_no_output_contains_anything_planted(outputs: Outputs) -> None:
    assert outputs.leaks() == {}


def test_planted_events_took_every_path(outputs: Outputs) -> None:
    """The searched run contains events that were processed, refused, retried and dead."""
    exported = outputs.by_name["export as jsonl"]
    expected = [b'"outcome":"processed"', b'"outcome":"dead"', b'"outcome":"retried"', b'"outcome":"quarantined"']
    expected += [
        b'"action":"crm.write"',
        b'"action":"stream.unreadable"',
        b"handler_error:ValueError",
        b"invalid_request",
    ]
    assert [text for text in expected if text not in exported] == []
    assert b"ValueError" in outputs.by_name["Sentry"]
    groups = set(
        re.findall(
            rb'"fingerprint":(\["talkative[^]]*)","tests/support/handlers/talkative.py:\d+"\]',
            outputs.by_name["Sentry"],
        )
    )
    assert groups == {
        b'["talkative.raises","ValueError',
        b'["talkative.refused_by_hubspot","InvalidRequest',
        b'["talkative.retried","ConnectionError',
    }
    assert b'"alert":"unreadable_delivery"' in outputs.by_name["Sentry"]  # alert webhooks are sent to the same endpoint
    assert [text in outputs.by_name["log of worker"] for text in (b"LookupError", b"python_warning")] == [True, True]
    assert b'"event":"event","process":"worker","level":"debug"' in outputs.by_name["log of worker"]
    assert b'"intact":true' in outputs.by_name["verify"]
    assert b"signature_malformed" in outputs.by_name["log of web"]
