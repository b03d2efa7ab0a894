"""Find out who makes a request. Rule: pages know people by their cookie, the API knows programs by their token.

A cookie says nothing to the API and a token nothing to a page, so neither can be used where the other's guards are.
"""

from http import HTTPStatus

from aiohttp import web

from spokes.console.accounts.actors import ADDRESS, Actor
from spokes.console.accounts.api_tokens import is_revoked, token_refused
from spokes.console.accounts.rate_limits import RateLimit
from spokes.console.accounts.sessions import COOKIE
from spokes.console.identity.bearer_tokens import verify_bearer_token
from spokes.console.web.app_keys import PROVIDER, REDIS, SESSIONS, SETTINGS
from spokes.core.errors import HttpProblem
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

_REFUSED_TOKENS = RateLimit(
    "token-address", 100, 60, "Too many tokens that are none of ours; wait as Retry-After says."
)


async def authenticate(request: web.Request) -> Actor | None:
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
        actor = await verify_bearer_token(given, request.app[SETTINGS], request.app[PROVIDER])
        if actor.token_id and await is_revoked(request.app[REDIS], actor.token_id):
            raise token_refused("The token was taken back; `spokes token mint` makes a new one.")
        return actor
    except HttpProblem as problem:
        if problem.status != HTTPStatus.UNAUTHORIZED:
            raise
        await _REFUSED_TOKENS.consume(request.app[REDIS], request[ADDRESS])  # its own log lines shall fill no disk
        log_security_event(SecurityEvent.TOKEN_REFUSED, from_address=request[ADDRESS], why=problem.detail)
        raise
