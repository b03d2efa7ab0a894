"""Find out who makes a request. Rule: pages know people by their cookie, the API knows programs by their token.

A cookie says nothing to the API and a token nothing to a page, so neither can be used where the other's guards are.
"""

from http import HTTPStatus

from aiohttp import web

from spokes.console.accounts.actors import ADDRESS, Actor
from spokes.console.accounts.api_tokens import is_revoked, refused
from spokes.console.accounts.rate_limits import Limit
from spokes.console.accounts.sessions import COOKIE
from spokes.console.identity.bearer_tokens import bearer
from spokes.console.web.app_keys import PROVIDER, REDIS, SESSIONS, SETTINGS
from spokes.core.errors import Problem
from spokes.core.telemetry.security_events import SecurityEvent, security

_FORGERIES = Limit("token-address", 100, 60, "Too many tokens that are none of ours; wait as Retry-After says.")


async def identify(request: web.Request) -> Actor | None:
    """Return who it is, None for somebody who does not say.

    Raises:
        Problem: 401 for a token that is none of ours, 429 for the address that has sent too many, 503 when the
            identity provider has to be asked and does not answer.
        RedisError, OSError: Redis does not answer.
    """
    if not request.path.startswith("/api/"):
        cookie = request.cookies.get(COOKIE, "")
        return await request.app[SESSIONS].find(cookie) if cookie else None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if not scheme:
        return None
    given = token.strip() if scheme.lower() == "bearer" else ""
    try:
        actor = await bearer(given, request.app[SETTINGS], request.app[PROVIDER])
        if actor.token_id and await is_revoked(request.app[REDIS], actor.token_id):
            raise refused("The token was taken back; `spokes token mint` makes a new one.")
        return actor
    except Problem as problem:
        if problem.status != HTTPStatus.UNAUTHORIZED:
            raise
        await _FORGERIES.take(request.app[REDIS], request[ADDRESS])  # its own log lines shall fill no disk
        security(SecurityEvent.TOKEN_REFUSED, from_address=request[ADDRESS], why=problem.sentence)
        raise
