"""*Now*, with live updates. A stream ends with its session, and does not restart the session's idle timeout."""

import asyncio
import contextlib
from typing import Final

import orjson
from aiohttp import web
from redis.exceptions import RedisError

from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.accounts.sessions import COOKIE
from spokes.console.pages.dashboard import FRESH_S, Dashboard, current_dashboard
from spokes.console.web.app_keys import SESSIONS, TEMPLATES
from spokes.console.web.middlewares import add_standard_headers
from spokes.console.web.rendering import render
from spokes.console.web.work_limits import WORK_LIMITS
from spokes.core.errors import HttpProblem

_PARTS: Final = ("alerts", "figures", "chart", "outcomes", "failing", "budget")
_MAX_UPDATES: Final = 1_800  # per stream; the browser then reconnects

STOPPING: Final = web.AppKey("stopping", asyncio.Event)


@requires(Permission.LOOK)
async def page(request: web.Request) -> web.Response:
    """Show the current state."""
    return render(request, "now.html", dashboard=await current_dashboard(request.app, request[ACTOR].portals))


@requires(Permission.LOOK)
async def live(request: web.Request) -> web.StreamResponse:
    """Stream the page's parts as server-sent events until the browser leaves, the session ends or the process stops."""
    with request.app[WORK_LIMITS].streams.running(request[ACTOR].name):
        return await _stream(request)


async def _stream(request: web.Request) -> web.StreamResponse:
    app = request.app
    # Before the headers are sent, so that a failure is still an error response.
    first = await current_dashboard(app, request[ACTOR].portals)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    add_standard_headers(request, response)
    await response.prepare(request)
    # A later failure only ends the stream: the browser reconnects and gets the error response.
    with contextlib.suppress(RedisError, OSError, HttpProblem):
        await response.write(_parts_event(app, first))
        for _ in range(_MAX_UPDATES):
            if await _is_stopping(app):
                break
            actor = await app[SESSIONS].find(request.cookies.get(COOKIE, ""), touch=False)
            if actor is None or not actor.may(Permission.LOOK):
                break
            await response.write(_parts_event(app, await current_dashboard(app, actor.portals)))
    return response


async def stop_streams(app: web.Application) -> None:
    """End all streams, so that shutdown does not wait for them."""
    app[STOPPING].set()


async def _is_stopping(app: web.Application) -> bool:
    """Wait until the next update is due; return whether the process stops before."""
    try:
        await asyncio.wait_for(app[STOPPING].wait(), FRESH_S)
    except TimeoutError:
        return False
    return True


def _parts_event(app: web.Application, dashboard: Dashboard) -> bytes:
    parts = {name: app[TEMPLATES].get_template(f"now/{name}.html").render(dashboard=dashboard) for name in _PARTS}
    return b"event: parts\ndata: " + orjson.dumps(parts) + b"\n\n"
