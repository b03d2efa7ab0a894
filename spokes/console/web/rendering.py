"""Pages out of templates. Rule: every value is escaped, and every page knows who looks and what they may.

What went wrong, told to programs by RFC 9457 and to people as a page. Rule: an answer quotes nothing it was sent.
"""

from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from spokes.console.accounts.actors import ACTOR, NOBODY, REQUEST_ID
from spokes.console.accounts.policy import Permission
from spokes.console.web.app_keys import TEMPLATES
from spokes.console.web.template_filters import FILTERS
from spokes.core.errors import HttpProblem

_TEMPLATE_PACKAGES: Final = ("spokes.console.pages", "spokes.console.web")  # each with a folder `templates`


def template_environment() -> Environment:
    """Return the environment of all templates."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(room) for room in _TEMPLATE_PACKAGES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def render(request: web.Request, name: str, *, status: int = 200, **values: object) -> web.Response:
    """Return a page. Beside `values` a template has `actor`, `may("settle")`, `csrf`, `path` and `request_id`."""
    actor = request.get(ACTOR, NOBODY)
    text = (
        request.app[TEMPLATES]
        .get_template(name)
        .render(
            actor=actor,
            may=lambda permission: actor.may(Permission(permission)),
            csrf=actor.csrf,
            path=request.path,
            request_id=request.get(REQUEST_ID, ""),
            **values,
        )
    )
    return web.Response(text=text, content_type="text/html", status=status, headers={"Cache-Control": "no-store"})


PROBLEM_MEDIA_TYPE = "application/problem+json"


def problem_response(request: web.Request, problem: HttpProblem) -> web.Response:
    """Return the answer that tells of `problem`: a page for the console, JSON for the API."""
    title = HTTPStatus(problem.status).phrase
    if request.path.startswith("/console"):
        answer = render(request, "problem.html", status=problem.status, title=title, sentence=problem.detail)
    else:
        told = {
            "type": f"urn:spokes:problem:{problem.reason}",
            "title": title,
            "status": problem.status,
            "detail": problem.detail,
            "correlation_id": request.get(REQUEST_ID, ""),
        }
        answer = web.Response(body=orjson.dumps(told), content_type=PROBLEM_MEDIA_TYPE, status=problem.status)
    if problem.retry_after_s is not None:
        answer.headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
