"""Log in by an identity provider. Rule: nothing in an address says where to go next, and who has no role stays out."""

from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ADDRESS, Actor
from spokes.console.accounts.policy import PublicAccess, requires
from spokes.console.identity.claims import actor_from_claims
from spokes.console.identity.login_flow import CALLBACK, LOGIN_TTL_S, finish_login, start_login
from spokes.console.identity.provider import Provider
from spokes.console.web.app_keys import PROVIDER, SETTINGS
from spokes.console.web.rendering import render
from spokes.console.web.sign_in import CONSOLE_PATH, redirect_to, start_session, throttle
from spokes.core.errors import HttpProblem
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

LOGIN_PATH: Final = "/console/oidc/login"
LOGIN_COOKIE: Final = "__Host-spokes-oidc"


@requires(PublicAccess.ANYONE)
async def redirect_to_provider(request: web.Request) -> web.Response:
    """Send the browser to the identity provider."""
    begun = await start_login(_provider(request))
    answer = redirect_to(begun.url)
    # Lax, since the browser comes back from another site.
    answer.set_cookie(
        LOGIN_COOKIE, begun.cookie, max_age=LOGIN_TTL_S, path="/", secure=True, httponly=True, samesite="Lax"
    )
    return answer


@requires(PublicAccess.ANYONE)
async def callback(request: web.Request) -> web.Response:
    """Let in who the identity provider has logged in.

    The answer is a page of ours that goes on by itself: a redirect would still count as coming from the provider's
    site, and so the session's cookie would not be sent along.
    """
    provider = _provider(request)
    await throttle(request)
    try:
        actor = await _authenticate(request, provider)
    except HttpProblem as problem:
        log_security_event(SecurityEvent.LOGIN_FAILED, from_address=request[ADDRESS], by="oidc", why=problem.reason)
        failed = render(request, "login.html", status=problem.status, failed=problem.detail, link="", oidc=LOGIN_PATH)
        return _delete_login_cookie(failed)
    answer = render(request, "welcome.html", place=CONSOLE_PATH)
    answer.headers["Refresh"] = f"0; url={CONSOLE_PATH}"
    return _delete_login_cookie(
        await start_session(request, answer, actor.name, actor.roles, actor.portals, method="oidc")
    )


def routes() -> list[web.RouteDef]:
    """Return the routes of logging in by an identity provider."""
    return [web.get(LOGIN_PATH, redirect_to_provider), web.get(CALLBACK, callback)]


async def _authenticate(request: web.Request, provider: Provider) -> Actor:
    claims = await finish_login(provider, request.cookies.get(LOGIN_COOKIE, ""), request.query)
    actor = actor_from_claims(claims, request.app[SETTINGS])
    if not actor.roles:
        raise HttpProblem(403, "no_role", "The identity provider knows you, but nobody has given you a role here.")
    return actor


def _provider(request: web.Request) -> Provider:
    provider = request.app[PROVIDER]
    if provider is None or not provider.settings.oidc_client_id:
        raise HttpProblem(
            404, "not_found", "No identity provider is set up here; `OIDC_CLIENT_ID` would name us to one."
        )
    return provider


def _delete_login_cookie(response: web.Response) -> web.Response:
    """Take the login's cookie away: it was for one attempt."""
    response.del_cookie(LOGIN_COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
    return response
