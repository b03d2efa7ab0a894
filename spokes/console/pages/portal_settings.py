"""What is different for one portal: handlers, event types, region, time zone, settings of handlers' own; and a form."""

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from spokes.console.accounts.policy import Permission, requires
from spokes.console.installs.portal_changes import PortalChange
from spokes.console.installs.portal_settings import PortalSettingsView
from spokes.console.web.actions.portal_settings import change_settings, read_settings
from spokes.console.web.app_keys import SETTINGS
from spokes.console.web.forms import Form, read_form, required_reason
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem
from spokes.portal import portal_settings_classes
from spokes.routing import load_router

_FIELDS: Final = ("name", "handlers", "events", "region", "time_zone", "currency")
_OWN: Final = "own."  # before the name of a setting of handlers' own
_MAX_LENGTH: Final = 10_000  # characters of a field


@requires(Permission.LOOK)
async def page(request: web.Request) -> web.Response:
    """Show the settings of one portal."""
    return _render(request, await read_settings(request))


@requires(Permission.CONFIGURE)
async def save(request: web.Request) -> web.Response:
    """Change what the form changes: what it sends as it was shown stays as it is, even if it was changed since."""
    reason, form = await required_reason(request), await read_form(request)
    changed = {name: text for name in _FIELDS if (text := _text(form, name).strip()) != _text(form, f"shown.{name}")}
    ended = [str(name) for name in form.getall("end", [])]
    own = {name.removeprefix(_OWN): _text(form, name) for name in form if name.startswith(_OWN)}
    values = [*((name, value) for name, value in own.items() if value), *((name, "") for name in ended)]
    view = await change_settings(request, PortalChange(**changed, values=tuple(values)), reason)
    return _render(request, view, "The settings are changed. Web processes and workers follow within seconds.")


def _text(form: Form, name: str) -> str:
    """Return a field, empty if it is missing.

    Raises:
        HttpProblem: 422, it is a file or too long.
    """
    value = form.get(name, "")
    if not isinstance(value, str) or len(value) > _MAX_LENGTH:
        raise HttpProblem(422, "wrong_setting", f"A field is a file or has more than {_MAX_LENGTH} characters.")
    return value


def _render(request: web.Request, view: PortalSettingsView, done: str = "") -> web.Response:
    package = request.app[SETTINGS].handlers
    shown = {name: _joined(getattr(view, name)) for name in _FIELDS}
    return render(
        request, "portal_settings.html", view=view, shown=shown, done=done, own=_own_fields(package, view.own),
        handlers=load_router(package).names,
    )  # fmt: skip


def _own_fields(package: str, stored: Iterable[str]) -> list[tuple[str, str, bool, bool]]:
    """Return name, description, whether it is set and whether a handler knows it, for each setting of handlers' own."""
    known = {
        name: field.description or ""
        for cls in portal_settings_classes(package)
        for name, field in cls.model_fields.items()
    }
    names = sorted({*known, *stored})
    return [(name, known.get(name, ""), name in stored, name in known) for name in names]


def _joined(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
