"""Start a session once an identity is proved, and throttle login attempts."""

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from spokes.audit.records import Action
from spokes.audit.stream import append_now
from spokes.console.accounts.actors import ADDRESS
from spokes.console.accounts.known_browsers import COOKIE as BROWSER_COOKIE
from spokes.console.accounts.known_browsers import MAX_AGE_S
from spokes.console.accounts.policy import Role
from spokes.console.accounts.rate_limits import RateLimit
from spokes.console.accounts.sessions import COOKIE
from spokes.console.operator_audit import operator_record
from spokes.console.web.app_keys import KNOWN_BROWSERS, REDIS, SESSIONS
from spokes.core.errors import HttpProblem
from spokes.core.request_guard import client_network
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

CONSOLE_PATH: Final = "/console"
_TOO_MANY_ATTEMPTS: Final = (
    "Too many login attempts. Wait a few minutes, use a browser that you logged in with before, or a link made by "
    "`spokes login-link`."
)
_KNOWN_BROWSER: Final = RateLimit("login-browser", 10, 300, _TOO_MANY_ATTEMPTS)
_NAME_IN_NETWORK: Final = RateLimit("login-name-network", 5, 300, _TOO_MANY_ATTEMPTS)
_NAME: Final = RateLimit("login-name", 200, 3600, _TOO_MANY_ATTEMPTS)  # from all networks together
_NETWORK: Final = RateLimit("login-network", 100, 300, _TOO_MANY_ATTEMPTS)  # bounds the CPU time of password hashes
_CALLBACKS: Final = RateLimit("login-callback", 100, 300, "Too many logins. Wait a few minutes.")


async def throttle_password(request: web.Request, name: str) -> None:
    """Count a login by password before the password is checked.

    A browser that logged in to the account before counts for itself. Otherwise guesses from anywhere would lock the
    owner out.

    Raises:
        HttpProblem: 429, too many attempts.
    """
    network = client_network(request[ADDRESS])
    browser = request.app[KNOWN_BROWSERS].recognise(request.cookies.get(BROWSER_COOKIE, ""), name)
    if browser:
        await _consume(request, (_KNOWN_BROWSER, f"{name} {browser}"))
    else:
        await _consume(request, (_NETWORK, network), (_NAME_IN_NETWORK, f"{name} {network}"), (_NAME, name))


async def throttle_callback(request: web.Request) -> None:
    """Count a return from the identity provider.

    Raises:
        HttpProblem: 429, too many from this network.
    """
    await _consume(request, (_CALLBACKS, client_network(request[ADDRESS])))


async def _consume(request: web.Request, *subjects: tuple[RateLimit, str]) -> None:
    try:
        for limit, subject in subjects:
            await limit.consume(request.app[REDIS], subject)
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
    """Start a session, set its cookie and that of a known browser on the response, and record the login in the audit.

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
    response.set_cookie(
        BROWSER_COOKIE, request.app[KNOWN_BROWSERS].issue(name), max_age=MAX_AGE_S, path="/", secure=True,
        httponly=True, samesite="Strict",
    )  # fmt: skip
    return response


def redirect_to(path: str) -> web.Response:
    """Return a redirect as a response; aiohttp's redirect exceptions lose their cookies in our middleware."""
    return web.Response(status=303, headers={"Location": path})
