"""*Object*: the timeline of one CRM object. It shows names, ids and counts, never property values."""

from itertools import groupby
from typing import Final

from aiohttp import web

from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Action, Outcome
from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.queries.history.descriptions import describe, explain_failure
from spokes.console.queries.history.objects import MatchedObject, Reference
from spokes.console.queries.history.records import RecordView
from spokes.console.queries.history.timeline import load_timeline
from spokes.console.web.app_keys import ENGINE, REDIS, SETTINGS
from spokes.console.web.rendering import render
from spokes.console.web.template_filters import date
from spokes.core.errors import AmbiguousReference
from spokes.core.events import OBJECT_TYPES
from spokes.core.master_key import load_master_key

_TYPE_IDS: Final = {name: type_id for type_id, name in OBJECT_TYPES.items()}
_STYLES: Final = {
    Outcome.PROCESSED: "good", Outcome.DEAD: "bad", Outcome.DISCARDED: "bad", Outcome.QUARANTINED: "bad",
    Outcome.RETRIED: "wait", Outcome.PARKED: "wait", Outcome.REPLAYED: "wait",
}  # fmt: skip
_INVALID_REFERENCE: Final = (
    "This is not a reference to a CRM object. Type its id, `contact 318845120771`, or paste its link from HubSpot."
)


@requires(Permission.LOOK)
async def page(request: web.Request) -> web.Response:
    """Show the search form, or the timeline of the object in `q`."""
    text = request.query.get("q", "").strip()
    if not text:
        return render(request, "object.html", text="", fault="", timeline=None)
    try:
        reference = Reference.from_text(text)
    except AmbiguousReference:
        return render(request, "object.html", status=422, text=text, fault=_INVALID_REFERENCE, timeline=None)
    app, after = request.app, request.query.get("after") or None
    key = object_hash_key(load_master_key(app[SETTINGS]))
    portals = request[ACTOR].portals
    try:
        timeline = await load_timeline(app[REDIS], app[ENGINE], portals, reference, hash_key=key, after=after)
    except ValueError:  # the cursor in the address was edited
        raise web.HTTPFound(request.rel_url.with_query(q=text)) from None
    return render(
        request, "object.html", text=text, fault="", timeline=timeline, after=after,
        days=[(day, list(records)) for day, records in groupby(timeline.records, lambda record: date(record.at))],
        describe=describe, explain_failure=explain_failure, record_style=record_style, hubspot_url=hubspot_url,
    )  # fmt: skip


def record_style(record: RecordView) -> str:
    """Return the CSS class of a record: good, bad, wait, or empty."""
    if record.action == Action.CRM_WRITE:
        return "bad" if record.detail.get("ok") is False else "good"
    return _STYLES.get(Outcome(record.outcome), "") if record.outcome in set(Outcome) else ""


def hubspot_url(matched: MatchedObject) -> str:
    """Return the object's address in HubSpot; empty if its type has none."""
    type_id = _TYPE_IDS.get(matched.object_type, matched.object_type)
    if not type_id.partition("-")[0].isdecimal():
        return ""
    return f"https://app.hubspot.com/contacts/{matched.portal_id}/record/{type_id}/{matched.object_id}"
