"""A small, fast HubSpot for measurements: `python bench/hubspots/fake_hubspot.py --help`.

It names the portal of every token, reads and updates contacts alone or in batches, and notes when each update arrived.
Contact N has a phone number that the default contacts handler rewrites. Beyond `--limit` calls in ten seconds it
answers 429, as HubSpot does. `GET /measured` returns what it has seen, as JSON.
"""

import argparse
import asyncio
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # it is run as a script

import orjson
import uvloop
from aiohttp import web

from bench.lib.traffic import PORTAL

_WINDOW_S: Final = 10.0


class FakeHubSpot:
    """Contacts that are made up from their ids, and a log of calls and updates."""

    def __init__(self, *, limit: int, latency_s: float) -> None:
        self.limit = limit
        self.latency_s = latency_s
        self.written: list[tuple[str, float]] = []  # object id, and the time of the update in seconds since 1970
        self.calls: list[float] = []
        self.rate_limited = 0
        self._window: deque[float] = deque()

    def app(self) -> web.Application:
        """Return the application; unknown paths are answered with 404."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/measured", self.measured)
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def measured(self, _: web.Request) -> web.Response:
        """Return the updates, the times of calls, and how many calls exceeded the limit."""
        return _json({"written": self.written, "calls": self.calls, "rate_limited": self.rate_limited})

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one call of the API."""
        body = await request.read()
        if request.path.endswith("/access-token-info"):
            return _json({"hubId": PORTAL, "userId": 1, "appId": 7788990, "scopes": []})
        if request.path.startswith("/account-info/"):
            return _json({"portalId": PORTAL, "timeZone": "Europe/Berlin"})
        now = time.time()
        if not self._is_within_limit(now):
            self.rate_limited += 1
            return _json({"status": "error", "category": "RATE_LIMITS", "policyName": "TEN_SECONDLY_ROLLING"}, 429)
        self.calls.append(now)
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        parts = request.path.rstrip("/").split("/")
        if parts[-2] == "batch":
            inputs = orjson.loads(body)["inputs"]
            results = [self._update(each, now) if parts[-1] == "update" else _contact(each["id"]) for each in inputs]
            return _json({"status": "COMPLETE", "results": results}, limit=self.limit)
        if request.method == "PATCH":
            return _json(self._update({"id": parts[-1], **orjson.loads(body)}, now), limit=self.limit)
        return _json(_contact(parts[-1]), limit=self.limit)

    def _update(self, change: dict[str, Any], now: float) -> dict[str, object]:
        self.written.append((change["id"], now))
        return {"id": change["id"], "properties": change["properties"]}

    def _is_within_limit(self, now: float) -> bool:
        if not self.limit:
            return True
        while self._window and self._window[0] <= now - _WINDOW_S:
            self._window.popleft()
        if len(self._window) >= self.limit:
            return False
        self._window.append(now)
        return True


def _contact(object_id: str) -> dict[str, object]:
    number = int(object_id) // 10  # the load's ids are ten apart; each contact has a number of its own
    phone = f"(202) {200 + number // 10_000 % 700}-{number % 10_000:04}"
    return {"id": object_id, "properties": {"phone": phone, "email": None, "hs_country_region_code": "US"}}


def _json(value: object, status: int = 200, *, limit: int = 0) -> web.Response:
    headers = {"x-hubspot-ratelimit-max": str(limit), "x-hubspot-ratelimit-interval-milliseconds": "10000"}
    return web.Response(
        body=orjson.dumps(value), status=status, content_type="application/json", headers=headers if limit else None
    )


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--limit", type=int, default=0, help="calls in ten seconds; 0: no limit")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of each answer")
    arguments = parser.parse_args()
    hubspot = FakeHubSpot(limit=arguments.limit, latency_s=arguments.latency_ms / 1000)
    web.run_app(
        hubspot.app(), host="127.0.0.1", port=arguments.port, access_log=None, print=None, loop=uvloop.new_event_loop()
    )


if __name__ == "__main__":
    main()
