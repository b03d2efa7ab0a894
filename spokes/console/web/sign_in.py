"""Start a session once an identity is proved, and throttle login attempts."""

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from spokes.audit.records import Action
from spokes.audit.stream import append_now
from spokes.console.accounts.actors import ADDRESS
from spokes.console.accounts.policy import Role
from spokes.console.accounts.rate_limits import RateLimit
from spokes.console.accounts.sessions import COOKIE
from spokes.console.operator_audit import operator_record
from spokes.console.web.app_keys import REDIS, SESSIONS
from spokes.core.errors import HttpProblem
from spokes.core.request_guard import client_network
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

CONSOLE_PATH: Final = "/console"
_TOO_MANY_ATTEMPTS: Final = "Too many login attempts. Wait a few minutes."
_BY_NAME: Final = RateLimit("login-name", 5, 300, _TOO_MANY_ATTEMPTS)
_BY_ADDRESS: Final = RateLimit("login-address", 20, 300, _TOO_MANY_ATTEMPTS)


async def throttle(request: web.Request, name: str = "") -> None:
    """Count a login attempt before its credentials are checked.

    Raises:
        HttpProblem: 429, too many attempts from this address or for this name.
    """
    try:
        await _BY_ADDRESS.consume(request.app[REDIS], client_network(request[ADDRESS]))
        if name:
            await _BY_NAME.consume(request.app[REDIS], name)
    except HttpProblem:
        log_security_event(SecurityEvent.LOGIN_THROTTLED, from_address=request[ADDRESS])
        raise


async def start_session(
    request: web.Request,
    response: web.Response,
    name: str,
    roles: Iterable[Role],
    portals: Iterable[int] | None,
    *,
    method: str,
) -> web.Response:
    """Start a session, set its cookie on the response, and record the login in the audit.

    An existing session of the browser ends. Otherwise a cookie planted by an attacker would become a session of this
    account (session fixation).
    """
    sessions = request.app[SESSIONS]
    if old_cookie := request.cookies.get(COOKIE):
        await sessions.end(old_cookie)
    await append_now(
        request.app[REDIS], operator_record(Action.LOGGED_IN, {"by": method}, actor=name, address=request[ADDRESS])
    )
    cookie = await sessions.start(name, roles, portals)
    log_security_event(SecurityEvent.LOGIN_SUCCEEDED, actor=name, from_address=request[ADDRESS], by=method)
    response.set_cookie(COOKIE, cookie, path="/", secure=True, httponly=True, samesite="Strict")
    return response


def redirect_to(path: str) -> web.Response:
    """Return a redirect as a response; aiohttp's redirect exceptions lose their cookies in our middleware."""
    return web.Response(status=303, headers={"Location": path})
