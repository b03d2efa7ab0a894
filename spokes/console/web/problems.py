"""What went wrong, told to programs by RFC 9457 and to people as a page. Rule: an answer quotes nothing it was sent."""

from http import HTTPStatus

import orjson
from aiohttp import web

from spokes.console.accounts.actors import REQUEST_ID
from spokes.console.web.rendering import render
from spokes.core.errors import Problem

MEDIA_TYPE = "application/problem+json"


def as_answer(request: web.Request, problem: Problem) -> web.Response:
    """Return the answer that tells of `problem`: a page for the console, JSON for the API."""
    title = HTTPStatus(problem.status).phrase
    if request.path.startswith("/console"):
        answer = render(request, "problem.html", status=problem.status, title=title, sentence=problem.sentence)
    else:
        told = {
            "type": f"urn:spokes:problem:{problem.reason}",
            "title": title,
            "status": problem.status,
            "detail": problem.sentence,
            "correlation_id": request.get(REQUEST_ID, ""),
        }
        answer = web.Response(body=orjson.dumps(told), content_type=MEDIA_TYPE, status=problem.status)
    if problem.retry_after_s is not None:
        answer.headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
