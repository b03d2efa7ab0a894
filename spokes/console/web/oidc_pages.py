"""Log in by an identity provider. Rule: nothing in an address says where to go next, and who has no role stays out."""

from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ADDRESS, Actor
from spokes.console.accounts.policy import Door, allow
from spokes.console.identity.claims import actor_of
from spokes.console.identity.login_flow import BEGUN_S, CALLBACK, begin, finish
from spokes.console.identity.provider import Provider
from spokes.console.web.app_keys import PROVIDER, SETTINGS
from spokes.console.web.rendering import render
from spokes.console.web.sign_in import INSIDE, let_in, throttle, to
from spokes.core.errors import Problem
from spokes.core.telemetry.security_events import SecurityEvent, security

BEGIN: Final = "/console/oidc/login"
COOKIE: Final = "__Host-spokes-oidc"


@allow(Door.ANYONE)
async def send_away(request: web.Request) -> web.Response:
    """Send the browser to the identity provider."""
    begun = await begin(_provider(request))
    answer = to(begun.url)
    # Lax, since the browser comes back from another site.
    answer.set_cookie(COOKIE, begun.cookie, max_age=BEGUN_S, path="/", secure=True, httponly=True, samesite="Lax")
    return answer


@allow(Door.ANYONE)
async def come_back(request: web.Request) -> web.Response:
    """Let in who the identity provider has logged in.

    The answer is a page of ours that goes on by itself: a redirect would still count as coming from the provider's
    site, and so the session's cookie would not be sent along.
    """
    provider = _provider(request)
    await throttle(request)
    try:
        actor = await _who(request, provider)
    except Problem as problem:
        security(SecurityEvent.LOGIN_FAILED, from_address=request[ADDRESS], by="oidc", why=problem.reason)
        failed = render(request, "login.html", status=problem.status, failed=problem.sentence, link="", oidc=BEGIN)
        return _done(failed)
    answer = render(request, "welcome.html", place=INSIDE)
    answer.headers["Refresh"] = f"0; url={INSIDE}"
    return _done(await let_in(request, answer, actor.name, actor.roles, actor.portals, by="oidc"))


def routes() -> list[web.RouteDef]:
    """Return the routes of logging in by an identity provider."""
    return [web.get(BEGIN, send_away), web.get(CALLBACK, come_back)]


async def _who(request: web.Request, provider: Provider) -> Actor:
    claims = await finish(provider, request.cookies.get(COOKIE, ""), request.query)
    actor = actor_of(claims, request.app[SETTINGS])
    if not actor.roles:
        raise Problem(403, "no_role", "The identity provider knows you, but nobody has given you a role here.")
    return actor


def _provider(request: web.Request) -> Provider:
    provider = request.app[PROVIDER]
    if provider is None or not provider.settings.oidc_client_id:
        raise Problem(404, "not_found", "No identity provider is set up here; `OIDC_CLIENT_ID` would name us to one.")
    return provider


def _done(answer: web.Response) -> web.Response:
    """Take the login's cookie away: it was for one attempt."""
    answer.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
    return answer
