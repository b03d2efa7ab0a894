"""Whether a request may go on. Rule: deny first; every condition must hold, and each refusal is a security event.

Whether a browser sent a form from our own page. Rule: browsers' word and our token must both agree.
"""

import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from spokes.console.accounts.actors import ADDRESS, Actor
from spokes.console.accounts.policy import Door, policy_of
from spokes.console.accounts.rate_limits import Limit
from spokes.console.web.app_keys import REDIS, SETTINGS
from spokes.core.errors import Problem
from spokes.core.telemetry.security_events import SecurityEvent, security

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGIN: Final = "/console/login"


async def permit(request: web.Request, actor: Actor | None) -> None:
    """Return when `actor` may do what the request asks.

    Raises:
        Problem: 401 nobody has said who they are, 403 they may not, or another site sent it, 429 too often.
        HTTPSeeOther: to the login, for a page.
    """
    policy = policy_of(request.match_info.handler)
    api = request.path.startswith("/api/")
    if not api and request.method not in _SAFE:
        await _from_our_page(request, actor)
    if actor is not None and api:
        await _rate(request, actor)
    if policy is Door.ANYONE:
        return
    if actor is None:
        if not api and request.method in _SAFE:
            raise web.HTTPSeeOther(_LOGIN)
        raise Problem(401, "not_signed_in", "Say who you are: a bearer token for the API, a login for the console.")
    if policy is not Door.SIGNED_IN and (policy is None or isinstance(policy, Door) or not actor.may(policy)):
        security(SecurityEvent.ACCESS_DENIED, actor=actor.name, from_address=request[ADDRESS], policy=str(policy))
        raise Problem(403, "not_permitted", "Your role does not permit this.")


async def _from_our_page(request: web.Request, actor: Actor | None) -> None:
    here = is_from_here(request.headers)
    if here and actor is not None:
        form = await request.post()
        given = request.headers.get(HEADER) or form.get(FIELD, "")
        here = isinstance(given, str) and is_ours(given, actor.csrf)
    if not here:
        security(SecurityEvent.CROSS_SITE_REFUSED, from_address=request[ADDRESS])
        raise Problem(403, "cross_site", "This form was not sent from a page of the console; open the page again.")


async def _rate(request: web.Request, actor: Actor) -> None:
    limit = Limit("api", request.app[SETTINGS].console_rate_limit, 60, "Too many requests; wait as Retry-After says.")
    try:
        await limit.take(request.app[REDIS], f"{actor.proof}:{actor.name}")
    except Problem:
        security(SecurityEvent.RATE_LIMITED, actor=actor.name, from_address=request[ADDRESS])
        raise


FIELD = "csrf"  # of a form
HEADER = "X-CSRF-Token"


def is_from_here(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that the request comes from a page of this very site; none says it, none believes it."""
    if site := headers.get("Sec-Fetch-Site"):
        return site == "same-origin"
    origin = urlsplit(headers.get("Origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == headers.get("Host", "").lower()


def is_ours(given: str, expected: str) -> bool:
    """Whether the token is the session's."""
    return bool(expected) and hmac.compare_digest(given.encode(errors="replace"), expected.encode())
