"""*Now*: how it stands, and live. Rule: a stream ends with its session, and no look at it lets a session live on."""

import asyncio
from typing import Final

import orjson
from aiohttp import web

from console.pages.board import FRESH_S, Board, board
from console.web.actors import ACTOR
from console.web.middlewares import dress
from console.web.policy import Permission, allow
from console.web.render import render
from console.web.sessions import COOKIE
from console.web.state import SESSIONS, TEMPLATES

_PARTS: Final = ("alerts", "figures", "chart", "outcomes", "failing", "budget")
_LONGEST: Final = 1_800  # looks of one stream; a browser then connects again


@allow(Permission.LOOK)
async def now(request: web.Request) -> web.Response:
    """Show how it stands."""
    return render(request, "now.html", board=await board(request.app, request[ACTOR].portals))


@allow(Permission.LOOK)
async def live(request: web.Request) -> web.StreamResponse:
    """Stream the page's parts as server-sent events until the browser leaves or the session ends."""
    first = await board(request.app, request[ACTOR].portals)  # a fault now is still an answer
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    dress(request, response)
    await response.prepare(request)
    await response.write(_event(request.app, first))
    for _ in range(_LONGEST):
        await asyncio.sleep(FRESH_S)
        actor = await request.app[SESSIONS].find(request.cookies.get(COOKIE, ""), touch=False)
        if actor is None or not actor.may(Permission.LOOK):
            break
        await response.write(_event(request.app, await board(request.app, actor.portals)))
    return response


def _event(app: web.Application, told: Board) -> bytes:
    parts = {name: app[TEMPLATES].get_template(f"now/{name}.html").render(board=told) for name in _PARTS}
    return b"event: parts\ndata: " + orjson.dumps(parts) + b"\n\n"
