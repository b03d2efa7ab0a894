"""Let somebody in, whichever way they have proved who they are. Rule: counted first, and the audit knows of it."""

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from spokes.audit.records import Action
from spokes.console.accounts.actors import ADDRESS
from spokes.console.accounts.policy import Role
from spokes.console.accounts.rate_limits import Limit
from spokes.console.accounts.sessions import COOKIE
from spokes.console.operator_audit import act, tell
from spokes.console.web.app_keys import REDIS, SESSIONS
from spokes.core.errors import Problem
from spokes.core.telemetry.security_events import SecurityEvent, security

INSIDE: Final = "/console"
_WAIT: Final = "Too many attempts to log in; wait a few minutes."
_BY_NAME: Final = Limit("login-name", 5, 300, _WAIT)
_BY_ADDRESS: Final = Limit("login-address", 20, 300, _WAIT)


async def throttle(request: web.Request, name: str = "") -> None:
    """Count an attempt to log in, before it is looked at.

    Raises:
        Problem: 429, it is one too many from this address or for this name.
    """
    try:
        await _BY_ADDRESS.take(request.app[REDIS], request[ADDRESS])
        if name:
            await _BY_NAME.take(request.app[REDIS], name)
    except Problem:
        security(SecurityEvent.LOGIN_THROTTLED, from_address=request[ADDRESS])
        raise


async def let_in(
    request: web.Request,
    answer: web.Response,
    name: str,
    roles: Iterable[Role],
    portals: Iterable[int] | None,
    *,
    by: str,
) -> web.Response:
    """Begin a session, and put its cookie on the answer.

    One that was there before ends, so that no cookie lives on that somebody planted.
    """
    sessions = request.app[SESSIONS]
    if before := request.cookies.get(COOKIE):
        await sessions.end(before)
    await tell(request.app[REDIS], act(Action.LOGGED_IN, {"by": by}, actor=name, address=request[ADDRESS]))
    cookie = await sessions.begin(name, roles, portals)
    security(SecurityEvent.LOGIN_SUCCEEDED, actor=name, from_address=request[ADDRESS], by=by)
    answer.set_cookie(COOKIE, cookie, path="/", secure=True, httponly=True, samesite="Strict")
    return answer


def to(place: str) -> web.Response:
    """Return a redirect as an answer, since aiohttp's exceptions carry no cookies through our middleware."""
    return web.Response(status=303, headers={"Location": place})
