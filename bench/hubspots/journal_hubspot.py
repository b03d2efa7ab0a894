"""A HubSpot with a journal of prepared pages, as a process: `python -m bench.hubspots.journal_hubspot`.

The pages differ in nothing but their ids, so that serving them costs the measured reader's machine little.
"""

import argparse
import sys
import time
from datetime import UTC, datetime

import orjson
from aiohttp import web

FIRST_ID = 318_845_000_000
PORTAL = 50112233


def page_bytes(number: int, events: int) -> bytes:
    """Return the file of one page: property changes of different contacts."""
    first = FIRST_ID + number * events
    at = datetime.fromtimestamp(1_795_442_400 + number, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entries = [
        {
            "type": "crmObject", "portalId": PORTAL, "occurredAt": at, "action": "UPDATE", "objectTypeId": "0-1",
            "objectId": first + index, "propertyChanges": {"phone": f"+1 202 555 {index:04d}"},
        }
        for index in range(events)
    ]  # fmt: skip
    published_at = datetime.fromtimestamp(time.time(), UTC).isoformat()
    return orjson.dumps({"offset": f"p{number}", "journalEvents": entries, "publishedAt": published_at})


def application(pages: list[bytes]) -> web.Application:
    """Return the server: token, next page, file."""

    async def token(_: web.Request) -> web.Response:
        return web.json_response({"access_token": "t", "expires_in": 1800, "token_type": "bearer"})

    def location(request: web.Request, number: int) -> web.Response:
        if number >= len(pages):
            return web.Response(status=204)
        url = f"http://{request.host}/files/{number}"
        return web.json_response({"currentOffset": f"p{number}", "url": url, "expiresAt": "2030-01-01T00:00:00Z"})

    async def earliest(request: web.Request) -> web.Response:
        return location(request, 0)

    async def latest(request: web.Request) -> web.Response:
        return location(request, len(pages) - 1)

    async def following(request: web.Request) -> web.Response:
        return location(request, int(request.match_info["offset"].removeprefix("p")) + 1)

    async def file(request: web.Request) -> web.Response:
        return web.Response(body=pages[int(request.match_info["number"])], content_type="application/json")

    app = web.Application()
    root = "/webhooks-journal/journal/{version}"
    app.router.add_post("/oauth/{version}/token", token)
    app.router.add_get(f"{root}/earliest", earliest)
    app.router.add_get(f"{root}/latest", latest)
    app.router.add_get(root + "/offset/{offset}/next", following)
    app.router.add_get("/files/{number}", file)
    return app


def main() -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pages", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    arguments = parser.parse_args()
    pages = [page_bytes(number, arguments.events) for number in range(arguments.pages)]
    web.run_app(application(pages), host="127.0.0.1", port=arguments.port, print=None, access_log=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
