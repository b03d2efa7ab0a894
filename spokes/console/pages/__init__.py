"""HTML pages over spokes.console.queries."""

from typing import Final

from aiohttp import web

from spokes.console.pages import (
    assets,
    audit,
    gaps,
    incidents,
    now,
    objects,
    pauses,
    portal_settings,
    portals,
    privacy,
    quarantine,
    settings,
    subscriptions,
)
from spokes.console.pages import dead_letters as letters
from spokes.console.web.audit_export import export_records

_LETTER: Final = "/console/dead/{portal:[0-9]{1,18}}/{key:[^/]{1,600}}"
_CONTENT: Final = "/console/quarantine/{portal:[0-9]{1,18}}/{key:[^/]{1,600}}"
_INCIDENT: Final = "/console/incidents/{id:[0-9a-f]{8}}"
_PORTAL: Final = "/console/portals/{portal:[0-9]{1,18}}"


def routes() -> list[web.RouteDef]:
    """Return the routes of all pages; each handler declares its access rule with `policy.requires`."""
    return [
        web.get("/console", now.page),
        web.get("/console/now/live", now.live),
        web.get("/console/object", objects.page),
        web.get("/console/dead", letters.page),
        web.post("/console/dead/replay", letters.replay),
        web.post("/console/dead/discard", letters.discard),
        web.get(_LETTER, letters.letter_page),
        web.post(_LETTER + "/reveal", letters.reveal),
        web.get(_CONTENT, quarantine.content_page),
        web.post("/console/quarantine/replay", quarantine.replay),
        web.post("/console/quarantine/discard", quarantine.discard),
        web.get("/console/audit", audit.page),
        web.get("/console/audit/export", export_records),
        web.post("/console/audit/verify", audit.verify),
        web.get("/console/privacy", privacy.page),
        web.get("/console/incidents", incidents.page),
        web.post("/console/incidents", incidents.open_incident),
        web.get(_INCIDENT, incidents.incident_page),
        web.post(_INCIDENT + "/note", incidents.add_note),
        web.post(_INCIDENT + "/close", incidents.close),
        web.post(_INCIDENT + "/export", incidents.export),
        web.get("/console/pauses", pauses.page),
        web.post("/console/pauses/resume", pauses.resume),
        web.post("/console/pauses/handler/pause", pauses.pause_handler),
        web.post("/console/pauses/handler/resume", pauses.resume_handler),
        web.get("/console/gaps", gaps.page),
        web.post("/console/gaps/close", gaps.close),
        web.get("/console/portals", portals.page),
        web.get(_PORTAL, portals.portal_page),
        web.get(_PORTAL + "/settings", portal_settings.page),
        web.post(_PORTAL + "/settings", portal_settings.save),
        web.post(_PORTAL + "/disconnect", portals.disconnect_portal),
        web.get("/console/subscriptions", subscriptions.page),
        web.get("/console/settings", settings.page),
        web.get("/console/static/{name}", assets.asset),
    ]
