"""What surrounds every request of the console. Rule: nobody comes past without a policy, and every fault is told.

`answer` is the outer one: ids, headers, what went wrong. `guard` is the inner one: who is it, and may they.

Headers of every answer. Rule: a page of ours runs our own scripts, asks us alone, and stands in nobody's frame.
"""

import re
import secrets
import time
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web
from redis.exceptions import RedisError

from spokes.console.accounts.actors import ACTOR, ADDRESS, REQUEST_ID
from spokes.console.accounts.policy import RouteHandler
from spokes.console.web.app_keys import BEHIND_WEB_PROCESS, SETTINGS
from spokes.console.web.authentication import authenticate
from spokes.console.web.authorization import authorize
from spokes.console.web.rendering import problem_response
from spokes.core.errors import AuditUnavailable, HttpProblem, RejectedRequest
from spokes.core.request_guard import check_sender
from spokes.core.telemetry.setup import log_canonical_line, report_error

_REQUEST_ID: Final = re.compile(r"[0-9a-f]{16}")
_STATUS_SENTENCES: Final = {
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
    413: "The request is too large.",
}
log = structlog.get_logger()


@web.middleware
async def wrap_request(request: web.Request, handler: RouteHandler) -> web.StreamResponse:
    """Turn what goes wrong into an answer, put the headers on it, and write the request's one line."""
    started = time.perf_counter()
    given = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    reason = ""
    response: web.StreamResponse
    try:
        request[ADDRESS] = _client_address(request)
        response = _preflight(request) or await handler(request)
    except web.HTTPRedirection as redirection:
        # A response of its own: aiohttp no longer takes an exception for one.
        response = web.Response(status=redirection.status, headers={"Location": redirection.headers["Location"]})
    except Exception as error:  # noqa: BLE001 - each becomes an answer
        problem = _problem_for(error)
        reason = problem.reason
        response = problem_response(request, problem)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
    if not response.prepared:
        add_standard_headers(request, response)
    route = request.match_info.route.resource
    told = {
        "request_id": request[REQUEST_ID],
        "method": request.method,
        "route": route.canonical if route is not None else "",
        "status": response.status,
        "reason": reason,
        "ms": round((time.perf_counter() - started) * 1000, 1),
    }
    if ACTOR in request:
        told["actor"] = request[ACTOR].name
    log_canonical_line("console_request", told)
    return response


@web.middleware
async def check_access(request: web.Request, handler: RouteHandler) -> web.StreamResponse:
    """Find out who it is, and let through who may."""
    if request.match_info.http_exception is not None:  # no such path, wrong method: it is nobody's secret
        raise request.match_info.http_exception
    actor = await authenticate(request)
    if actor is not None:
        request[ACTOR] = actor
    await authorize(request, actor)
    return await handler(request)


def add_standard_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put on the headers that every answer has; for an answer that streams, before it is prepared."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    if origin := _allowed_origin(request):
        response.headers.update(cors_headers(origin))


def _allowed_origin(request: web.Request) -> str:
    """The request's origin where its scripts may call the API."""
    origin = request.headers.get("Origin", "")
    listed = origin in request.app[SETTINGS].console_origins and request.path.startswith("/api/")
    return origin if listed else ""


def _preflight(request: web.Request) -> web.Response | None:
    """Answer a browser that asks whether a script may call us."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    return web.Response(status=204) if asks and _allowed_origin(request) else None


def _client_address(request: web.Request) -> str:
    """Where the request came from; on a socket our own web process has found it out."""
    if request.app[BEHIND_WEB_PROCESS]:
        return request.headers.get("X-Forwarded-For", "")
    try:
        return check_sender(request.headers, request.remote, proxies=request.app[SETTINGS].trusted_proxies, networks=())
    except RejectedRequest:
        raise HttpProblem(403, "not_https", "The console is served over https only.") from None


def _problem_for(error: Exception) -> HttpProblem:
    """What an exception means to whoever asked."""
    match error:
        case HttpProblem():
            return error
        case web.HTTPException(status=status):
            name = HTTPStatus(status).phrase
            return HttpProblem(status, name.lower().replace(" ", "_"), _STATUS_SENTENCES.get(status, f"{name}."))
        case AuditUnavailable():
            sentence = "The audit store does not answer, or is not migrated; `spokes doctor` says which."
            return HttpProblem(503, error.reason, sentence, retry_after_s=5)
        case RedisError() | OSError():
            return HttpProblem(503, "redis_unavailable", "Redis does not answer; try again shortly.", retry_after_s=5)
    report_error(error)
    log.error("console_request_failed", exc_info=error)
    return HttpProblem(500, "internal", "Something of ours failed; the log tells more under the request's id.")


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


def cors_headers(origin: str) -> dict[str, str]:
    """Return what lets scripts of a listed origin call the API: with a token, never with a cookie."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Allow-Methods": "GET, POST, DELETE",
        "Access-Control-Expose-Headers": "X-Request-Id, Retry-After, Link",
        "Access-Control-Max-Age": "600",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Vary": "Origin",
    }
