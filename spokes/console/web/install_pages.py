"""Installs by OAuth: `/oauth/install` starts one, `/oauth/callback` finishes it. Customers open both without a login.

HubSpot's marketplace calls `/oauth/install` too: with `step=authorize` and `returnUrl` before it asks the customer, and
with a code afterwards. Source: HubSpot's docs, "Understand app installation flow".
"""

from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ADDRESS
from spokes.console.accounts.policy import PublicAccess, requires
from spokes.console.accounts.rate_limits import RateLimit
from spokes.console.installs.hubspot_urls import checked_return_url
from spokes.console.installs.install_flow import CALLBACK_PATH, INSTALL_PATH, InstallFlow
from spokes.console.installs.install_state import STATE_TTL_S, InstallState, browser_id
from spokes.console.number_input import parse_number
from spokes.console.web.app_keys import INSTALLS, REDIS, SETTINGS
from spokes.console.web.login.sign_in import redirect_to
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem
from spokes.core.request_guard import client_network

_TOO_MANY: Final = "Too many installs were started from your network. Wait a few minutes, then start again."
_STARTS: Final = RateLimit("install-start", 600, 300, _TOO_MANY)
_CALLBACKS: Final = RateLimit("install-callback", 600, 300, _TOO_MANY)
_MAX_LENGTH: Final = 4096  # characters of a parameter
_LARGEST_PORTAL: Final = 2**53


@requires(PublicAccess.ANYONE)
async def install(request: web.Request) -> web.Response:
    """Send the browser to HubSpot, or finish an install that HubSpot's marketplace started."""
    installs = await _throttled(request, _STARTS)
    step, code, return_url = (_parameter(request, name) for name in ("step", "code", "returnUrl"))
    if return_url:
        return_url = checked_return_url(return_url, request.app[SETTINGS].hubspot_app_url)
    elif step or code:
        raise _malformed("The parameter returnUrl is missing, so the install was not started. Start again.")
    if step not in {"", "authorize", "finalize"}:
        raise _malformed("The parameter step is neither authorize nor finalize. Start again.")
    if step == "finalize" or code:
        await _finish_for_marketplace(request, installs, code, has_state=step == "finalize")
        return redirect_to(return_url)
    browser = browser_id(request.cookies.get(_cookie_name(request), ""))
    if step == "authorize":
        # HubSpot may show the flow in a frame, in which a browser sends only cookies that allow it.
        return _with_cookie(request, redirect_to(installs.start_for_marketplace(browser, return_url)), browser, "None")
    portal_id = _portal_id(request)
    return _with_cookie(
        request, redirect_to(installs.start(browser, portal_id=portal_id, return_url=return_url)), browser, "Lax"
    )


@requires(PublicAccess.ANYONE)
async def callback(request: web.Request) -> web.Response:
    """Finish an install with the code that HubSpot sends, and say what was installed."""
    installs = await _throttled(request, _CALLBACKS)
    code, error = _parameter(request, "code"), _parameter(request, "error")
    state = await _use_state(request, installs, is_marketplace=False)
    if error:
        raise _cancelled(error)
    if not code:
        raise _malformed("HubSpot sent no code, so nothing was installed. Start again.")
    done = await installs.finish(code, CALLBACK_PATH, state)
    if state.return_url:
        return redirect_to(state.return_url)
    return render(
        request, "installed.html", portal_id=done.portal_id, handlers=done.handler_count, declined=done.declined
    )


def routes() -> list[web.RouteDef]:
    """Return the routes; HEAD, which programs send to look at a link, must not use a code up."""
    return [web.get(INSTALL_PATH, install, allow_head=False), web.get(CALLBACK_PATH, callback, allow_head=False)]


async def _finish_for_marketplace(request: web.Request, installs: InstallFlow, code: str, *, has_state: bool) -> None:
    """Finish an install that the marketplace started: with our state, or, without `step`, with the code alone.

    A code alone is accepted. It belongs to the portal that HubSpot says, and to no account of ours, so an
    attacker who makes another person's browser send it gains nothing.
    """
    if not code:
        raise _malformed("HubSpot sent no code, so nothing was installed. Start again.")
    state = InstallState("", is_marketplace=True)
    if has_state or "state" in request.query:
        state = await _use_state(request, installs, is_marketplace=True)
    await installs.finish(code, INSTALL_PATH, state)


async def _use_state(request: web.Request, installs: InstallFlow, *, is_marketplace: bool) -> InstallState:
    browser = request.cookies.get(_cookie_name(request), "")
    return await installs.use_state(_parameter(request, "state"), browser, is_marketplace=is_marketplace)


async def _throttled(request: web.Request, limit: RateLimit) -> InstallFlow:
    """Count the request; return the installs of this deployment.

    Raises:
        HttpProblem: 404, no app is configured; 429, too many requests from this network.
    """
    installs = request.app[INSTALLS]
    if installs is None:
        raise HttpProblem(404, "not_found", "This deployment has no app that can be installed.")
    await limit.consume(request.app[REDIS], client_network(request[ADDRESS]))
    return installs


def _parameter(request: web.Request, name: str) -> str:
    """Return a parameter of the query, empty if it is missing.

    Raises:
        HttpProblem: 400, it occurs twice or is too long.
    """
    values = request.query.getall(name, [])
    if len(values) > 1 or any(len(value) > _MAX_LENGTH for value in values):
        raise _malformed(f"The parameter {name} occurs twice or is too long. Start again.")
    return values[0] if values else ""


def _portal_id(request: web.Request) -> int:
    text = _parameter(request, "portalId")
    if not text:
        return 0
    portal_id = parse_number(text)
    if portal_id is None or not 0 < portal_id <= _LARGEST_PORTAL:
        raise _malformed("The parameter portalId is not the id of a HubSpot portal.")
    return portal_id


def _cancelled(error: str) -> HttpProblem:
    if error == "access_denied":
        return HttpProblem(400, "install_cancelled", "The install was cancelled at HubSpot, so nothing was installed.")
    return HttpProblem(400, "install_refused", "HubSpot did not authorise the install, so nothing was installed.")


def _malformed(detail: str) -> HttpProblem:
    return HttpProblem(400, "install_malformed", detail)


def _is_https(request: web.Request) -> bool:
    return request.app[SETTINGS].public_url.startswith("https://")


def _cookie_name(request: web.Request) -> str:
    """Return the name of the browser's cookie; with https only our own host can set it."""
    return "__Host-spokes-install" if _is_https(request) else "spokes-install"


def _with_cookie(request: web.Request, response: web.Response, browser: str, same_site: str) -> web.Response:
    """Set the browser's cookie. Lax or less: the browser returns from HubSpot's site, and Strict would withhold it."""
    is_https = _is_https(request)
    response.set_cookie(
        _cookie_name(request), browser, max_age=STATE_TTL_S, path="/", secure=is_https, httponly=True,
        samesite=same_site if is_https else "Lax",
    )  # fmt: skip
    return response
