"""What a team would write in a day: `python bench/baselines/rival.py web|worker`.

The web process verifies, parses and filters as Spokes does, and enqueues a stock arq job for each event. The worker
reads the contact, writes the phone number back and inserts a row into SQLite, one event at a time in each of 100 tasks.
It has no duplicates' check, no order by object, no rate limit and no retry after a crash. Settings by environment:
REDIS_URL, PORT, HUBSPOT_API_URL, BENCH_ROWS (the SQLite file).
"""

import argparse
import asyncio
import base64
import hmac
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # it is run as a script

import aiohttp
import orjson
import uvloop
from aiohttp import web
from arq.connections import ArqRedis
from arq.worker import Worker, func

from bench.lib.traffic import PATH, PUBLIC_URL, SECRET, WANTED_TYPES
from spokes.crm.values.canonical_forms import canonical_phone

_SIGNED_HEAD: Final = f"POST{PUBLIC_URL}{PATH}".encode()
_MAX_AGE_MS: Final = 300_000


class Receiver:
    """Verifies a request and enqueues its events."""

    def __init__(self) -> None:
        self._redis = ArqRedis.from_url(os.environ["REDIS_URL"])

    async def receive(self, request: web.Request) -> web.Response:
        """Verify, parse, filter, enqueue; 202."""
        body = await request.read()
        timestamp = request.headers["X-HubSpot-Request-Timestamp"]
        expected = base64.b64encode(hmac.digest(SECRET.encode(), _SIGNED_HEAD + body + timestamp.encode(), "sha256"))
        is_fresh = abs(time.time_ns() // 1_000_000 - int(timestamp)) <= _MAX_AGE_MS
        if not is_fresh or not hmac.compare_digest(expected, request.headers["X-HubSpot-Signature-v3"].encode()):
            return web.Response(status=401)
        for event in orjson.loads(body):
            name = event.get("propertyName")
            if (f"{event['subscriptionType']}:{name}" if name else event["subscriptionType"]) in WANTED_TYPES:
                await self._redis.enqueue_job("process", event, _job_id=f"{event['eventId']}-{event['objectId']}")
        return web.Response(status=202)


async def process(ctx: dict[str, Any], event: dict[str, Any]) -> None:
    """Read the contact, write its phone number, insert a row."""
    url = f"{os.environ['HUBSPOT_API_URL']}/crm/v3/objects/contacts/{event['objectId']}"
    http: aiohttp.ClientSession = ctx["http"]
    async with http.get(url, params={"properties": "phone"}) as response:
        contact = orjson.loads(await response.read())
    phone = canonical_phone(contact["properties"]["phone"], "US")
    async with http.patch(url, json={"properties": {"phone": phone}}) as response:
        await response.read()
    ctx["rows"].execute("INSERT INTO done VALUES (?, ?)", (str(event["objectId"]), time.time()))
    ctx["rows"].commit()


async def work() -> None:
    """Drain the queue until killed."""
    rows = sqlite3.connect(os.environ["BENCH_ROWS"])
    rows.execute("PRAGMA journal_mode=WAL")
    rows.execute("CREATE TABLE IF NOT EXISTS done (object_id TEXT, at REAL)")
    async with aiohttp.ClientSession() as http:
        await Worker(
            functions=[func(process, name="process")],
            redis_pool=ArqRedis.from_url(os.environ["REDIS_URL"]),
            ctx={"http": http, "rows": rows},
            max_jobs=100,
            poll_delay=0.05,
            queue_read_limit=2000,
            keep_result=0,
            log_results=False,
        ).async_run()


async def ready(_: web.Request) -> web.Response:
    """Return 200: the server is listening."""
    return web.Response()


def serve() -> None:
    """Serve until SIGTERM."""
    app = web.Application(client_max_size=10 * 2**20)
    app.router.add_post(PATH, Receiver().receive)
    app.router.add_get("/readyz", ready)
    port = int(os.environ["PORT"])
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, loop=uvloop.new_event_loop())


def main() -> None:
    """Run one of the two processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("process", choices=["web", "worker"])
    if parser.parse_args().process == "web":
        serve()
    else:
        uvloop.run(work()) if sys.version_info < (3, 14) else asyncio.run(work())


if __name__ == "__main__":
    main()
