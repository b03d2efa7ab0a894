"""Login by an identity provider.

No query parameter decides where the browser goes after the login. A person without a role is refused.
"""

from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ADDRESS, Actor
from spokes.console.accounts.policy import PublicAccess, requires
from spokes.console.identity.claims import actor_from_claims
from spokes.console.identity.login_flow import CALLBACK, LOGIN_TTL_S, finish_login, start_login
from spokes.console.identity.provider import Provider
from spokes.console.web.app_keys import PROVIDER, SETTINGS
from spokes.console.web.login.sign_in import CONSOLE_PATH, redirect_to, start_session, throttle_callback
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

LOGIN_PATH: Final = "/console/oidc/login"
LOGIN_COOKIE: Final = "__Host-spokes-oidc"


@requires(PublicAccess.ANYONE)
async def redirect_to_provider(request: web.Request) -> web.Response:
    """Send the browser to the identity provider."""
    login = await start_login(_provider(request))
    response = redirect_to(login.url)
    # Lax: the browser returns from the provider's site, and Strict would withhold the cookie.
    response.set_cookie(
        LOGIN_COOKIE, login.cookie, max_age=LOGIN_TTL_S, path="/", secure=True, httponly=True, samesite="Lax"
    )
    return response


@requires(PublicAccess.ANYONE)
async def callback(request: web.Request) -> web.Response:
    """Finish the login and start a session.

    The response is a page that refreshes to the console. After a redirect the browser would still count the request as
    coming from the provider's site and withhold the session's SameSite=Strict cookie.
    """
    provider = _provider(request)
    await throttle_callback(request)
    try:
        actor = await _authenticate(request, provider)
    except HttpProblem as problem:
        log_security_event(SecurityEvent.LOGIN_FAILED, from_address=request[ADDRESS], by="oidc", why=problem.reason)
        failed = render(
            request,
            "login.html",
            status=problem.status,
            failed=problem.detail,
            link="",
            oidc=LOGIN_PATH,
            needs_https=False,
        )
        return _delete_login_cookie(failed)
    response = render(request, "welcome.html", target=CONSOLE_PATH)
    response.headers["Refresh"] = f"0; url={CONSOLE_PATH}"
    return _delete_login_cookie(
        await start_session(request, response, actor.name, actor.roles, actor.portals, method="oidc")
    )


def routes() -> list[web.RouteDef]:
    """Return the routes of the login by an identity provider."""
    return [web.get(LOGIN_PATH, redirect_to_provider), web.get(CALLBACK, callback)]


async def _authenticate(request: web.Request, provider: Provider) -> Actor:
    claims = await finish_login(provider, request.cookies.get(LOGIN_COOKIE, ""), request.query)
    actor = actor_from_claims(claims, request.app[SETTINGS])
    if not actor.roles:
        raise HttpProblem(
            403, "no_role", "The identity provider knows you, but you have no role here. Ask an admin for one."
        )
    return actor


def _provider(request: web.Request) -> Provider:
    provider = request.app[PROVIDER]
    if provider is None or not provider.settings.oidc_client_id:
        raise HttpProblem(404, "not_found", "No identity provider is configured. Set OIDC_ISSUER and OIDC_CLIENT_ID.")
    return provider


def _delete_login_cookie(response: web.Response) -> web.Response:
    """Delete the login cookie: it is valid for one attempt."""
    response.del_cookie(LOGIN_COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
    return response
