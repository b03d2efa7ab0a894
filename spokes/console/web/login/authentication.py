"""Find the actor of a request: by session cookie for pages, by bearer token for the API.

The API ignores cookies and pages ignore tokens. Otherwise a cookie could authenticate an API call, and
the API has no CSRF check.
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
from spokes.core.request_guard import client_network
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

_REFUSED_TOKENS = RateLimit("token-address", 100, 60, "Too many invalid tokens. Wait as long as Retry-After says.")


async def authenticate(request: web.Request) -> Actor | None:
    """Return the actor, or None if the request carries no credentials.

    Raises:
        HttpProblem: 401 for an invalid token, 429 if the address sent too many of them, 503 if the identity provider
            is needed and does not answer.
        RedisError, OSError: Redis does not answer.
    """
    if not request.path.startswith("/api/"):
        cookie = request.cookies.get(COOKIE, "")
        return await request.app[SESSIONS].find(cookie) if cookie else None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if not scheme:
        return None
    bearer_token = token.strip() if scheme.lower() == "bearer" else ""
    try:
        actor = await verify_bearer_token(bearer_token, request.app[SETTINGS], request.app[PROVIDER])
        if actor.token_id and await is_revoked(request.app[REDIS], actor.token_id):
            raise token_refused("The token was revoked. `spokes token mint` makes a new one.")
        return actor
    except HttpProblem as problem:
        if problem.status != HTTPStatus.UNAUTHORIZED:
            raise
        # Before the log line, so that invalid tokens cannot fill the disk.
        await _REFUSED_TOKENS.consume(request.app[REDIS], client_network(request[ADDRESS]))
        log_security_event(SecurityEvent.TOKEN_REFUSED, from_address=request[ADDRESS], why=problem.detail)
        raise
