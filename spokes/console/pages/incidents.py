"""*Incidents*: open, note, close and export them. They concern all portals, so only actors of all portals see them."""

import os
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from aiohttp import web

from spokes.audit.incidents.incident import MAX_NOTE, MAX_TITLE, Note, check_notified_at, clean_text, new_incident
from spokes.audit.incidents.incident_store import IncidentStore
from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.accounts.policy import Permission, requires
from spokes.console.incidents.bundle import write_bundle
from spokes.console.queries.incidents import incident_details, incident_views
from spokes.console.web.app_keys import ENGINE, SETTINGS
from spokes.console.web.audit_export import parse_filters
from spokes.console.web.forms import Form, form_text, form_time, read_form
from spokes.console.web.middlewares import add_standard_headers
from spokes.console.web.rendering import render
from spokes.console.web.work_limits import WORK_LIMITS
from spokes.core.clock import now_ms
from spokes.core.errors import HttpProblem, IncidentRejected
from spokes.core.masking import Mask

_PATH: Final = "/console/incidents"
_OBJECTS_SHOWN: Final = 50
_CHUNK: Final = 1 << 16  # bytes


@requires(Permission.PRIVACY)
async def page(request: web.Request) -> web.Response:
    """Show the incidents with their clocks: the open ones, the earliest deadline first, then the closed ones."""
    portals = request[ACTOR].portals
    views = await incident_views(request.app[ENGINE], portals)
    open_ = [view for view in views if view.incident.closed_at is None]
    closed = [view for view in views if view.incident.closed_at is not None]
    closed.sort(key=lambda view: -(view.incident.closed_at or 0))
    return render(request, "incidents.html", open=open_, closed=closed, sees_all=portals is None, max_title=MAX_TITLE)


@requires(Permission.PRIVACY)
async def incident_page(request: web.Request) -> web.Response:
    """Show one incident: clock, notes and affected objects."""
    details = await incident_details(request.app[ENGINE], request[ACTOR].portals, request.match_info["id"])
    if details is None:
        raise HttpProblem(404, "no_such_incident", "There is no such incident.")
    return render(request, "incident.html", details=details, shown=_OBJECTS_SHOWN, max_note=MAX_NOTE)


@requires(Permission.PRIVACY)
async def open_incident(request: web.Request) -> web.Response:
    """Open an incident and start its 72-hour clock."""
    store, form = _store(request), await read_form(request)
    narrow, faults = parse_filters({name: form_text(form, name) for name in ("actor", "handler", "token")})
    if faults:
        raise HttpProblem(422, "wrong_filter", " ".join(faults))
    try:
        incident = new_incident(
            form_text(form, "title", max_length=MAX_TITLE + 1), _mask(request), opened_by=store.actor,
            aware_at=form_time(form, "aware"), since=form_time(form, "since"), until=form_time(form, "until"),
            actor=narrow.actor, handler=narrow.handler, token=narrow.token,
        )  # fmt: skip
    except IncidentRejected as rejected:
        raise _problem(rejected) from None
    await store.open(incident)
    raise web.HTTPSeeOther(f"{_PATH}/{incident.id}")


@requires(Permission.PRIVACY)
async def add_note(request: web.Request) -> web.Response:
    """Add a note; with `notified`, the authority was notified, which stops the clock."""
    store, form = _store(request), await read_form(request)
    notified_at = (form_time(form, "at") or now_ms()) if form_text(form, "notified") else None
    return await _change(request, form, lambda note: _noted(store, note, notified_at))


@requires(Permission.PRIVACY)
async def close(request: web.Request) -> web.Response:
    """Close an incident with its conclusion."""
    store, form = _store(request), await read_form(request)
    return await _change(request, form, lambda note: store.close(note.incident_id, note))


@requires(Permission.PRIVACY)
async def export(request: web.Request) -> web.StreamResponse:
    """Send the signed bundle. A POST, because the audit records it."""
    app, store, id_ = request.app, _store(request), request.match_info["id"]
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    with (
        app[WORK_LIMITS].exports.running(request[ACTOR].name),
        tempfile.TemporaryDirectory(prefix="spokes-incident-") as folder,  # readable by its owner only
    ):
        file = Path(folder) / "bundle.zip"
        try:
            problem = await write_bundle(app[SETTINGS], app[ENGINE], store, id_, file)
        except IncidentRejected as rejected:
            raise _problem(rejected) from None
        state = "-not-intact" if problem else ""  # the bundle says why
        return await _send_file(request, file, f"incident-{id_}-{stamp}{state}.zip")


async def _send_file(request: web.Request, file: Path, name: str) -> web.StreamResponse:
    disposition = f'attachment; filename="{name}"'
    response = web.StreamResponse(headers={"Content-Type": "application/zip", "Content-Disposition": disposition})
    add_standard_headers(request, response)
    with file.open("rb") as contents:
        response.content_length = os.fstat(contents.fileno()).st_size
        await response.prepare(request)
        while chunk := contents.read(_CHUNK):
            await response.write(chunk)
    return response


async def _noted(store: IncidentStore, note: Note, notified_at: int | None) -> None:
    if notified_at is not None:
        check_notified_at(notified_at, now_ms())
    await store.add_note(note, notified_at=notified_at)


async def _change(request: web.Request, form: Form, apply: Callable[[Note], Coroutine[Any, Any, None]]) -> NoReturn:
    """Apply a change with the note of the form, and show the incident again."""
    id_ = request.match_info["id"]
    try:
        text = clean_text(form_text(form, "text", max_length=MAX_NOTE + 1), _mask(request), what="note", limit=MAX_NOTE)
        await apply(Note(incident_id=id_, author=request[ACTOR].name, text=text))
    except IncidentRejected as rejected:
        raise _problem(rejected) from None
    raise web.HTTPSeeOther(f"{_PATH}/{id_}")


def _store(request: web.Request) -> IncidentStore:
    """Return the store in which the request's actor changes incidents.

    Raises:
        HttpProblem: 403, the actor may see some portals only.
    """
    actor = request[ACTOR]
    if actor.portals is not None:
        raise HttpProblem(403, "not_all_portals", "Incidents concern all portals. Your account may see some only.")
    return IncidentStore.from_settings(request.app[SETTINGS], request.app[ENGINE], actor.name, request[ADDRESS])


def _mask(request: web.Request) -> Mask:
    return Mask(request.app[SETTINGS].secret_values)


def _problem(rejected: IncidentRejected) -> HttpProblem:
    return HttpProblem(422, "incident_rejected", f"{rejected} Nothing was changed.")
