"""Whether a request may go on. Rule: deny first; every condition must hold, and each refusal is a security event.

Whether a browser sent a form from our own page. Rule: browsers' word and our token must both agree.
"""

import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from spokes.console.accounts.actors import ADDRESS, Actor
from spokes.console.accounts.policy import PublicAccess, policy_of
from spokes.console.accounts.rate_limits import RateLimit
from spokes.console.web.app_keys import REDIS, SETTINGS
from spokes.core.errors import HttpProblem
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGIN: Final = "/console/login"


async def authorize(request: web.Request, actor: Actor | None) -> None:
    """Return when `actor` may do what the request asks.

    Raises:
        Problem: 401 nobody has said who they are, 403 they may not, or another site sent it, 429 too often.
        HTTPSeeOther: to the login, for a page.
    """
    policy = policy_of(request.match_info.handler)
    api = request.path.startswith("/api/")
    if not api and request.method not in _SAFE_METHODS:
        await _check_cross_site(request, actor)
    if actor is not None and api:
        await _check_rate(request, actor)
    if policy is PublicAccess.ANYONE:
        return
    if actor is None:
        if not api and request.method in _SAFE_METHODS:
            raise web.HTTPSeeOther(_LOGIN)
        raise HttpProblem(401, "not_signed_in", "Say who you are: a bearer token for the API, a login for the console.")
    if policy is not PublicAccess.SIGNED_IN and (
        policy is None or isinstance(policy, PublicAccess) or not actor.may(policy)
    ):
        log_security_event(
            SecurityEvent.ACCESS_DENIED, actor=actor.name, from_address=request[ADDRESS], policy=str(policy)
        )
        raise HttpProblem(403, "not_permitted", "Your role does not permit this.")


async def _check_cross_site(request: web.Request, actor: Actor | None) -> None:
    here = is_same_origin(request.headers)
    if here and actor is not None:
        form = await request.post()
        given = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD, "")
        here = isinstance(given, str) and is_valid_csrf_token(given, actor.csrf_token)
    if not here:
        log_security_event(SecurityEvent.CROSS_SITE_REFUSED, from_address=request[ADDRESS])
        raise HttpProblem(403, "cross_site", "This form was not sent from a page of the console; open the page again.")


async def _check_rate(request: web.Request, actor: Actor) -> None:
    limit = RateLimit(
        "api", request.app[SETTINGS].console_rate_limit, 60, "Too many requests; wait as Retry-After says."
    )
    try:
        await limit.consume(request.app[REDIS], f"{actor.auth_method}:{actor.name}")
    except HttpProblem:
        log_security_event(SecurityEvent.RATE_LIMITED, actor=actor.name, from_address=request[ADDRESS])
        raise


CSRF_FIELD = "csrf"  # of a form
CSRF_HEADER = "X-CSRF-Token"


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that the request comes from a page of this very site; none says it, none believes it."""
    if site := headers.get("Sec-Fetch-Site"):
        return site == "same-origin"
    origin = urlsplit(headers.get("Origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == headers.get("Host", "").lower()


def is_valid_csrf_token(token: str, expected: str) -> bool:
    """Whether the token is the session's."""
    return bool(expected) and hmac.compare_digest(token.encode(errors="replace"), expected.encode())
