"""*Object*: everything that happened to one CRM object. Rule: names, ids and counts; a value never stands here."""

from itertools import groupby
from typing import Final

from aiohttp import web

from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Action, Outcome
from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.queries.descriptions import describe, explain_reason
from spokes.console.queries.objects import MatchedObject, Reference
from spokes.console.queries.records import RecordView
from spokes.console.queries.timeline import load_timeline
from spokes.console.web.app_keys import ENGINE, REDIS, SETTINGS
from spokes.console.web.rendering import render
from spokes.console.web.template_filters import date
from spokes.core.errors import AmbiguousReference
from spokes.core.events import OBJECT_TYPES

_TYPE_IDS: Final = {name: type_id for type_id, name in OBJECT_TYPES.items()}
_STYLES: Final = {
    Outcome.PROCESSED: "good", Outcome.DEAD: "bad", Outcome.DISCARDED: "bad", Outcome.QUARANTINED: "bad",
    Outcome.RETRIED: "wait", Outcome.PARKED: "wait", Outcome.REPLAYED: "wait",
}  # fmt: skip
_AMBIGUOUS: Final = "That names no CRM object: type its id, `contact 318845120771`, or paste its link from HubSpot."


@requires(Permission.LOOK)
async def page(request: web.Request) -> web.Response:
    """Ask for an object, or show the timeline of the one in `q`."""
    text = request.query.get("q", "").strip()
    if not text:
        return render(request, "object.html", text="", fault="", found=None)
    try:
        reference = Reference.from_text(text)
    except AmbiguousReference:
        return render(request, "object.html", status=422, text=text, fault=_AMBIGUOUS, found=None)
    app, after = request.app, request.query.get("after") or None
    key = object_hash_key(app[SETTINGS].master_key())
    portals = request[ACTOR].portals
    try:
        found = await load_timeline(app[REDIS], app[ENGINE], portals, reference, hash_key=key, after=after)
    except ValueError:  # an address that somebody edited
        raise web.HTTPFound(request.rel_url.with_query(q=text)) from None
    return render(
        request, "object.html", text=text, fault="", found=found, after=after,
        days=[(which, list(records)) for which, records in groupby(found.records, lambda record: date(record.at))],
        sentence=describe, because=explain_reason, kind=record_style, link=hubspot_url,
    )  # fmt: skip


def record_style(record: RecordView) -> str:
    """Return how a record is to look: good, bad, wait, or plain."""
    if record.action == Action.CRM_WRITE:
        return "bad" if record.detail.get("ok") is False else "good"
    return _STYLES.get(Outcome(record.outcome), "") if record.outcome in set(Outcome) else ""


def hubspot_url(matched: MatchedObject) -> str:
    """Return where the object stands in HubSpot; empty where its type has no address there."""
    type_id = _TYPE_IDS.get(matched.object_type, matched.object_type)
    numbered = type_id.partition("-")[0].isdecimal()
    return (
        f"https://app.hubspot.com/contacts/{matched.portal_id}/record/{type_id}/{matched.object_id}" if numbered else ""
    )
