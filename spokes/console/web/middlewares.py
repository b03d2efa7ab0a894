"""The console's middlewares: request id, error responses, security headers, authentication and authorization.

`wrap_request` is the outer one, `check_access` the inner one. The Content-Security-Policy allows only our own scripts,
styles and requests, and no framing.
"""

import re
import secrets
import time
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web
from redis.exceptions import RedisError

from spokes.console.accounts.actors import ACTOR, ADDRESS, IS_HTTPS, REQUEST_ID
from spokes.console.accounts.policy import RouteHandler
from spokes.console.web.app_keys import BEHIND_WEB_PROCESS, SETTINGS, STRANGERS_LOG
from spokes.console.web.authorization import authorize
from spokes.console.web.login.authentication import authenticate
from spokes.console.web.rendering import problem_response
from spokes.console.web.request_checks import check_request, malformed_request
from spokes.core.errors import AuditUnavailable, HttpProblem, RejectedRequest, SecretUnreadable
from spokes.core.redis.key_types import WrongKeyType, wrong_type_sentence
from spokes.core.request_guard import check_sender, is_https
from spokes.core.telemetry.metrics import CONSOLE_REQUESTS
from spokes.core.telemetry.setup import log_canonical_line, report_error

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "spokes",
}
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{16}")
_STATUS_SENTENCES: Final = {
    404: "There is nothing at this address.",
    405: "This address does not accept that method.",
    413: "The request is too large.",
}
_STORE: Final = "The audit store does not answer or is not migrated. `spokes doctor` says which."
_KEYS: Final = "No key of SECRETS_KEY opens what is stored. Put the earlier key back behind the newest one."
log = structlog.get_logger()


@web.middleware
async def wrap_request(request: web.Request, handler: RouteHandler) -> web.StreamResponse:
    """Turn exceptions into responses, set the standard headers, and log the request's canonical line."""
    started = time.perf_counter()
    request_id = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = request_id if _REQUEST_ID.fullmatch(request_id) else secrets.token_hex(8)
    reason = ""
    response: web.StreamResponse
    try:
        request[ADDRESS] = _client_address(request)
        request[IS_HTTPS] = is_https(request.headers, request.app[SETTINGS].trusted_proxies)
        check_request(request)
        response = _preflight(request) or await handler(request)
    except web.HTTPRedirection as redirection:
        # aiohttp no longer accepts an exception as the response.
        response = web.Response(status=redirection.status, headers={"Location": redirection.headers["Location"]})
    except Exception as error:  # noqa: BLE001 - each becomes a response
        problem = _problem_for(error, is_signed_in=ACTOR in request)
        reason = problem.reason
        response = problem_response(request, problem)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
    if not response.prepared:
        add_standard_headers(request, response)
    CONSOLE_REQUESTS.labels(str(response.status), reason).inc()
    if ACTOR not in request and request.app[STRANGERS_LOG].is_exceeded():
        return response
    route = request.match_info.route.resource
    fields = {
        "request_id": request[REQUEST_ID],
        "method": request.method,
        "route": route.canonical if route is not None else "",
        "status": response.status,
        "reason": reason,
        "ms": round((time.perf_counter() - started) * 1000, 1),
    }
    if ACTOR in request:
        fields["actor"] = request[ACTOR].name
    log_canonical_line("console_request", fields)
    return response


@web.middleware
async def check_access(request: web.Request, handler: RouteHandler) -> web.StreamResponse:
    """Authenticate and authorize the request before its handler runs."""
    if request.match_info.http_exception is not None:  # 404 or 405, which reveals nothing
        raise request.match_info.http_exception
    actor = await authenticate(request)
    if actor is not None:
        request[ACTOR] = actor
    await authorize(request, actor)
    return await handler(request)


def add_standard_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that every response has; a streamed response needs them before `prepare`."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    if origin := _allowed_origin(request):
        response.headers.update(cors_headers(origin))


def _allowed_origin(request: web.Request) -> str:
    """Return the request's origin if CONSOLE_ORIGINS lists it and the request is for the API, else an empty string."""
    origin = request.headers.get("Origin", "")
    listed = origin in request.app[SETTINGS].console_origins and request.path.startswith("/api/")
    return origin if listed else ""


def _preflight(request: web.Request) -> web.Response | None:
    """Return the response to a CORS preflight from a listed origin, None for every other request."""
    is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    return web.Response(status=204) if is_preflight and _allowed_origin(request) else None


def _client_address(request: web.Request) -> str:
    """Return the client's address; behind our web process, the one that it passes on."""
    if request.app[BEHIND_WEB_PROCESS]:
        return request.headers.get("X-Forwarded-For", "")
    try:
        return check_sender(request.headers, request.remote, proxies=request.app[SETTINGS].trusted_proxies, networks=())
    except RejectedRequest:
        raise HttpProblem(403, "not_https", "The console is served over HTTPS only.") from None


def _problem_for(error: Exception, *, is_signed_in: bool) -> HttpProblem:
    """Return the problem that describes an exception to the client."""
    match error:
        case HttpProblem():
            return error
        case web.HTTPException(status=status):
            name = HTTPStatus(status).phrase
            return HttpProblem(status, name.lower().replace(" ", "_"), _STATUS_SENTENCES.get(status, f"{name}."))
        case web.RequestPayloadError():  # a body that breaks HTTP's own rules
            return malformed_request()
        case AuditUnavailable() | SecretUnreadable():
            is_store = isinstance(error, AuditUnavailable)
            return HttpProblem(503, error.reason, _STORE if is_store else _KEYS, retry_after_s=5 if is_store else None)
        case RedisError() | OSError():
            detail = "Redis does not answer. Try again shortly."
            if is_signed_in and isinstance(error, WrongKeyType):
                detail = wrong_type_sentence(error.names)
            return HttpProblem(503, "redis_unavailable", detail, retry_after_s=5)
    report_error(error)
    log.error("console_request_failed", exc_info=error)
    return HttpProblem(500, "internal", "An internal error occurred. The log has details under the request id.")


def cors_headers(origin: str) -> dict[str, str]:
    """Return the CORS headers for a listed origin; they allow tokens, not cookies."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Allow-Methods": "GET, POST, DELETE",
        "Access-Control-Expose-Headers": "X-Request-Id, Retry-After, Link",
        "Access-Control-Max-Age": "600",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Vary": "Origin",
    }
