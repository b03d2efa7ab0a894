"""Allow or refuse a request: access rules, CSRF protection, rate limit.

A route without an access rule is refused. A form is accepted only if the browser reports it as same-origin and it
contains the session's CSRF token.
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
from spokes.console.web.forms import read_form
from spokes.core.errors import HttpProblem
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

CSRF_FIELD: Final = "csrf"  # a form field
CSRF_HEADER: Final = "X-CSRF-Token"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGIN: Final = "/console/login"


async def authorize(request: web.Request, actor: Actor | None) -> None:
    """Check that `actor` may make this request; every refusal is logged as a security event.

    Raises:
        HttpProblem: 401 without credentials, 403 without the permission or from another site, 429 over the rate limit.
        HTTPSeeOther: redirects a page to the login.
    """
    rule = policy_of(request.match_info.handler)
    is_api = request.path.startswith("/api/")
    if not is_api and request.method not in _SAFE_METHODS:
        await _check_cross_site(request, actor)
    if actor is not None and is_api:
        await _check_rate(request, actor)
    if rule is PublicAccess.ANYONE:
        return
    if actor is None:
        if not is_api and request.method in _SAFE_METHODS:
            raise web.HTTPSeeOther(_LOGIN)
        raise HttpProblem(401, "not_signed_in", "Send a bearer token to the API, or log in to the console.")
    if rule is not PublicAccess.SIGNED_IN and (rule is None or isinstance(rule, PublicAccess) or not actor.may(rule)):
        log_security_event(
            SecurityEvent.ACCESS_DENIED, actor=actor.name, from_address=request[ADDRESS], policy=str(rule)
        )
        raise HttpProblem(403, "not_permitted", "Your role does not permit this.")


async def _check_cross_site(request: web.Request, actor: Actor | None) -> None:
    is_ours = is_same_origin(request.headers)
    if is_ours and actor is not None:
        form = await read_form(request)
        token = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD, "")
        is_ours = isinstance(token, str) and is_valid_csrf_token(token, actor.csrf_token)
    if not is_ours:
        log_security_event(SecurityEvent.CROSS_SITE_REFUSED, from_address=request[ADDRESS])
        raise HttpProblem(403, "cross_site", "This form was not sent from a page of the console. Open the page again.")


async def _check_rate(request: web.Request, actor: Actor) -> None:
    limit = RateLimit(
        "api", request.app[SETTINGS].console_rate_limit, 60, "Too many requests. Wait as long as Retry-After says."
    )
    try:
        await limit.consume(request.app[REDIS], f"{actor.auth_method}:{actor.name}")
    except HttpProblem:
        log_security_event(SecurityEvent.RATE_LIMITED, actor=actor.name, from_address=request[ADDRESS])
        raise


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Return whether Sec-Fetch-Site, or else Origin, names our own site; False without either header."""
    if site := headers.get("Sec-Fetch-Site"):
        return site == "same-origin"
    try:
        host = urlsplit(headers.get("Origin", "")).netloc.lower()
    except ValueError:  # an unclosed bracket of an IPv6 address, for one
        return False
    return bool(host) and host == headers.get("Host", "").lower()


def is_valid_csrf_token(token: str, expected: str) -> bool:
    """Return whether the token is that of the session."""
    return bool(expected) and hmac.compare_digest(token.encode(errors="replace"), expected.encode())
