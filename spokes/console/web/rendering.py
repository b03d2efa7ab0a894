"""Pages out of templates. Rule: every value is escaped, and every page knows who looks and what they may."""

from typing import Final

from aiohttp import web
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from spokes.console.accounts.actors import ACTOR, NOBODY, REQUEST_ID
from spokes.console.accounts.policy import Permission
from spokes.console.web.app_keys import TEMPLATES
from spokes.console.web.template_filters import FILTERS

_ROOMS: Final = ("spokes.console.pages", "spokes.console.web")  # each with a folder `templates`


def templates() -> Environment:
    """Return the environment of all templates."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(room) for room in _ROOMS]),
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
