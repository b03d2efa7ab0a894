"""Minimal aiohttp servers as upper bounds of throughput: `python bench/baselines/ceilings.py bare|verified --port N`.

`bare` reads the body and responds. `verified` also checks signature and age, parses, and filters events: everything a
receiver does beyond that is the cost of its queue.
"""

import argparse
import base64
import hmac
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # it is run as a script

import orjson
import uvloop
from aiohttp import web

from bench.lib.traffic import PATH, PUBLIC_URL, SECRET, WANTED_TYPES

_KEY = SECRET.encode()
_SIGNED_HEAD = f"POST{PUBLIC_URL}{PATH}".encode()
_MAX_AGE_MS = 300_000


async def bare(request: web.Request) -> web.Response:
    """Read the body; 202."""
    await request.read()
    return web.Response(status=202)


async def verified(request: web.Request) -> web.Response:
    """Verify, parse, filter; 202."""
    body = await request.read()
    timestamp = request.headers["X-HubSpot-Request-Timestamp"]
    expected = base64.b64encode(hmac.digest(_KEY, _SIGNED_HEAD + body + timestamp.encode(), "sha256"))
    fresh = abs(time.time_ns() // 1_000_000 - int(timestamp)) <= _MAX_AGE_MS
    if not fresh or not hmac.compare_digest(expected, request.headers["X-HubSpot-Signature-v3"].encode()):
        return web.Response(status=401)
    wanted = [event for event in orjson.loads(body) if _is_wanted(event)]
    return web.Response(status=202, text=str(len(wanted)))


def _is_wanted(event: dict[str, object]) -> bool:
    name = event.get("propertyName")
    return (f"{event['subscriptionType']}:{name}" if name else event["subscriptionType"]) in WANTED_TYPES


async def readyz(_: web.Request) -> web.Response:
    """Return 200: the server is listening."""
    return web.Response()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("handler", choices=["bare", "verified"])
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    app = web.Application()
    app.router.add_post(PATH, {"bare": bare, "verified": verified}[arguments.handler])
    app.router.add_get("/readyz", readyz)
    web.run_app(app, host="127.0.0.1", port=arguments.port, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
