"""Render Jinja pages, and problems as a page or as JSON by RFC 9457."""

from functools import cache
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from spokes.console.accounts.actors import ACTOR, NOBODY, REQUEST_ID
from spokes.console.accounts.policy import Permission
from spokes.console.web.app_keys import SETTINGS, TEMPLATES
from spokes.console.web.template_filters import FILTERS
from spokes.core.errors import HttpProblem

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
_TEMPLATE_PACKAGES: Final = ("spokes.console.pages", "spokes.console.web")  # each has a folder `templates`


@cache
def template_environment() -> Environment:
    """Return the Jinja environment of all templates; values are escaped, and a missing variable is an error.

    A process has one, so that each template is compiled once.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in _TEMPLATE_PACKAGES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def render(request: web.Request, name: str, *, status: int = 200, **values: object) -> web.Response:
    """Return a page. Templates also have `actor`, `may("settle")`, `csrf`, `path`, `has_installs` and `request_id`."""
    actor = request.get(ACTOR, NOBODY)
    text = (
        request.app[TEMPLATES]
        .get_template(name)
        .render(
            actor=actor,
            may=lambda permission: actor.may(Permission(permission)),
            csrf=actor.csrf_token,
            path=request.path,
            request_id=request.get(REQUEST_ID, ""),
            has_installs=bool(request.app[SETTINGS].hubspot_client_id),
            **values,
        )
    )
    return web.Response(text=text, content_type="text/html", status=status, headers={"Cache-Control": "no-store"})


def problem_response(request: web.Request, problem: HttpProblem) -> web.Response:
    """Return the response for `problem`: a page for the console and for installs, JSON by RFC 9457 for the API.

    It quotes nothing of the request.
    """
    title = HTTPStatus(problem.status).phrase
    if request.path.startswith(("/console", "/oauth/")):
        page = "problem.html" if request.path.startswith("/console") else "install_problem.html"
        response = render(request, page, status=problem.status, title=title, sentence=problem.detail)
    else:
        body = {
            "type": f"urn:spokes:problem:{problem.reason}",
            "title": title,
            "status": problem.status,
            "detail": problem.detail,
            "correlation_id": request.get(REQUEST_ID, ""),
        }
        response = web.Response(body=orjson.dumps(body), content_type=PROBLEM_MEDIA_TYPE, status=problem.status)
    if problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
