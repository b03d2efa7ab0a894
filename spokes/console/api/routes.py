"""All routes of the API, in one list."""

from functools import cache
from typing import Final

import orjson
from aiohttp import web

from spokes.console.accounts.policy import Permission, PublicAccess
from spokes.console.api import (
    account_endpoints,
    action_endpoints,
    gap_endpoints,
    incident_endpoints,
    portal_endpoints,
    privacy_endpoints,
    quarantine_endpoints,
    read_endpoints,
)
from spokes.console.api.account_endpoints import Account
from spokes.console.api.openapi import document
from spokes.console.api.request_schemas import (
    AuditQuery,
    DeadLetterQuery,
    DeadLetterSelection,
    DeliveryQuery,
    ErasureBody,
    EventQuery,
    ExportQuery,
    GapQuery,
    PersonBody,
    PortalQuery,
    PortalSettingsBody,
    QuarantineQuery,
    QuarantineSelection,
    ReasonBody,
    TimelineQuery,
)
from spokes.console.api.response_schemas import (
    ActionResult,
    DeadLetterView,
    DeliveryView,
    Disconnection,
    EventView,
    GapView,
    QuarantineResult,
    Resumption,
    TimelineView,
)
from spokes.console.api.route import ApiRoute
from spokes.console.installs.portal_settings import PortalSettingsView
from spokes.console.installs.portal_views import PortalView
from spokes.console.quarantine.contents import ContentView
from spokes.console.queries.budgets import PortalBudget
from spokes.console.queries.history.deliveries import DeliverySummary
from spokes.console.queries.history.records import Page, RecordView
from spokes.console.queries.incidents import IncidentDetails, IncidentView
from spokes.console.queries.privacy_requests import PrivacyRequestView
from spokes.console.queries.queue import Queue
from spokes.console.web.audit_export import export_records
from spokes.gaps.gap import Gap
from spokes.queue.pauses.portal_pauses import PortalPause

# Identity providers choose the names of actors and the ids of tokens freely; each character may be percent-encoded.
_SEGMENT: Final = "[^/]{1,600}"
_KEY: Final = f"{{key:{_SEGMENT}}}"
_PORTAL: Final = r"{portal:[0-9]{1,18}}"
_NAME: Final = f"{{name:{_SEGMENT}}}"
_HANDLER: Final = f"{{handler:{_SEGMENT}}}"
_ID: Final = f"{{id:{_SEGMENT}}}"
_DEAD_LETTER: Final = f"/dead-letters/{_PORTAL}/{_KEY}"
_CONTENT: Final = f"/quarantine/{_PORTAL}/{_KEY}"
_LOOK, _AUDIT, _SETTLE, _PAUSE = Permission.LOOK, Permission.AUDIT, Permission.SETTLE, Permission.PAUSE


async def _export(request: web.Request, _: ExportQuery) -> web.StreamResponse:
    return await export_records(request)


async def _openapi(_: web.Request, __: None) -> web.Response:
    return web.Response(body=_document(), content_type="application/json")


@cache
def _document() -> bytes:
    """Return the OpenAPI document; generating it takes a tenth of a second, and it is public."""
    return orjson.dumps(document(ROUTES))


# fmt: off
ROUTES: Final = (
    ApiRoute("GET", "/queue", _LOOK, "Queue length, lag and pauses", read_endpoints.get_queue, Queue),
    ApiRoute("GET", "/budget", _LOOK, "Use of HubSpot's limits per portal",
             read_endpoints.get_budget, tuple[PortalBudget, ...]),
    ApiRoute("GET", "/deliveries", _LOOK, "Received deliveries, newest first",
             read_endpoints.get_deliveries, Page[DeliverySummary], DeliveryQuery),
    ApiRoute("GET", f"/deliveries/{_ID}", _LOOK, "One delivery", read_endpoints.get_delivery, DeliveryView),
    ApiRoute("GET", "/events", _LOOK, "Outcomes of events, newest first",
             read_endpoints.get_events, Page[RecordView], EventQuery),
    ApiRoute("GET", f"/events/{_KEY}", _LOOK, "One event through all its attempts",
             read_endpoints.get_event, EventView),
    ApiRoute("GET", "/timeline", _LOOK, "Timeline of a CRM object",
             read_endpoints.get_timeline, TimelineView, TimelineQuery),
    ApiRoute("GET", "/dead-letters", _LOOK, "Events that could not be processed",
             action_endpoints.get_dead_letters, Page[DeadLetterView], DeadLetterQuery),
    ApiRoute("GET", _DEAD_LETTER, _LOOK, "One dead letter", action_endpoints.get_dead_letter, DeadLetterView),
    ApiRoute("POST", f"{_DEAD_LETTER}/replay", _SETTLE, "Queue a dead letter again",
             action_endpoints.replay, ActionResult, ReasonBody),
    ApiRoute("POST", f"{_DEAD_LETTER}/discard", _SETTLE, "Discard a dead letter",
             action_endpoints.discard, ActionResult, ReasonBody),
    ApiRoute("POST", "/dead-letters/replay", _SETTLE, "Queue many dead letters again",
             action_endpoints.replay_many, ActionResult, DeadLetterSelection),
    ApiRoute("POST", "/dead-letters/discard", _SETTLE, "Discard many dead letters",
             action_endpoints.discard_many, ActionResult, DeadLetterSelection),
    ApiRoute("GET", "/quarantine", _LOOK, "Elements, bodies and stored deliveries that are unreadable",
             quarantine_endpoints.get_contents, Page[ContentView], QuarantineQuery),
    ApiRoute("GET", _CONTENT, _LOOK, "One quarantined content, without values",
             quarantine_endpoints.get_content, ContentView),
    ApiRoute("POST", f"{_CONTENT}/replay", _SETTLE, "Admit a quarantined content again",
             quarantine_endpoints.replay, QuarantineResult, ReasonBody),
    ApiRoute("POST", f"{_CONTENT}/discard", _SETTLE, "Discard a quarantined content",
             quarantine_endpoints.discard, QuarantineResult, ReasonBody),
    ApiRoute("POST", "/quarantine/replay", _SETTLE, "Admit many quarantined contents again",
             quarantine_endpoints.replay_many, QuarantineResult, QuarantineSelection),
    ApiRoute("POST", "/quarantine/discard", _SETTLE, "Discard many quarantined contents",
             quarantine_endpoints.discard_many, QuarantineResult, QuarantineSelection),
    ApiRoute("GET", "/portals", _LOOK, "Portals that installed the app",
             portal_endpoints.get_portals, Page[PortalView], PortalQuery),
    ApiRoute("GET", f"/portals/{_PORTAL}", _LOOK, "One portal that installed the app",
             portal_endpoints.get_portal, PortalView),
    ApiRoute("GET", f"/portals/{_PORTAL}/settings", _LOOK, "What is different for one portal",
             portal_endpoints.get_settings, PortalSettingsView),
    ApiRoute("POST", f"/portals/{_PORTAL}/settings", Permission.CONFIGURE, "Change what is different for one portal",
             portal_endpoints.set_settings, PortalSettingsView, PortalSettingsBody),
    ApiRoute("POST", f"/portals/{_PORTAL}/disconnect", Permission.DISCONNECT, "Uninstall the app from a portal",
             portal_endpoints.disconnect_portal, Disconnection, ReasonBody),
    ApiRoute("POST", f"/portals/{_PORTAL}/pause", _PAUSE, "Pause a portal",
             action_endpoints.pause, PortalPause, ReasonBody),
    ApiRoute("POST", f"/portals/{_PORTAL}/resume", _PAUSE, "Resume a portal",
             action_endpoints.resume, Resumption, ReasonBody),
    ApiRoute("POST", f"/portals/{_PORTAL}/handlers/{_HANDLER}/pause", _PAUSE, "Pause one handler in a portal",
             action_endpoints.pause_handler, ActionResult, ReasonBody),
    ApiRoute("POST", f"/portals/{_PORTAL}/handlers/{_HANDLER}/resume", _PAUSE, "Resume one handler in a portal",
             action_endpoints.resume_handler, ActionResult, ReasonBody),
    ApiRoute("GET", "/gaps", _LOOK, "Intervals in which events may have been missed, the oldest open one first",
             gap_endpoints.get_gaps, tuple[Gap, ...], GapQuery),
    ApiRoute("GET", f"/gaps/{_ID}", _LOOK, "One gap, open or closed", gap_endpoints.get_gap, GapView),
    ApiRoute("POST", f"/gaps/{_ID}/close", _SETTLE, "Close an open gap without a proof",
             gap_endpoints.close_gap, Gap, ReasonBody),
    ApiRoute("GET", "/audit", _AUDIT, "Audit records, newest first",
             read_endpoints.get_audit_records, Page[RecordView], AuditQuery),
    ApiRoute("GET", "/audit/export", Permission.EXPORT, "Audit records as lines, oldest first",
             _export, request_type=ExportQuery, stream_types=("application/x-ndjson", "text/csv")),
    ApiRoute("GET", "/audit/verify", _AUDIT, "Recompute the hash chain of the audit",
             read_endpoints.get_chain_verification, dict[str, object]),
    ApiRoute("GET", "/privacy-requests", Permission.PRIVACY, "Privacy requests, most urgent first",
             read_endpoints.get_privacy_requests, tuple[PrivacyRequestView, ...]),
    ApiRoute("POST", "/privacy-requests", Permission.PRIVACY, "Request an erasure; a worker starts it within the hour",
             privacy_endpoints.create_erasure_request, PrivacyRequestView, ErasureBody),
    ApiRoute("GET", f"/privacy-requests/{_ID}", Permission.PRIVACY, "One privacy request with its progress",
             privacy_endpoints.get_privacy_request, PrivacyRequestView),
    ApiRoute("POST", "/privacy-exports", Permission.PRIVACY, "All data held on a person, with values",
             privacy_endpoints.export_person, dict[str, object], PersonBody),
    ApiRoute("GET", "/incidents", Permission.PRIVACY, "Incidents with their 72-hour clocks",
             incident_endpoints.get_incidents, tuple[IncidentView, ...]),
    ApiRoute("GET", f"/incidents/{_ID}", Permission.PRIVACY, "One incident with notes and affected objects",
             incident_endpoints.get_incident, IncidentDetails),
    ApiRoute("GET", "/users", Permission.USERS, "All accounts", account_endpoints.get_users, tuple[Account, ...]),
    ApiRoute("POST", f"/users/{_NAME}/logout", Permission.USERS, "End all sessions of an account",
             account_endpoints.end_sessions, ActionResult, ReasonBody),
    ApiRoute("POST", f"/tokens/{_ID}/revoke", Permission.USERS, "Revoke a token",
             account_endpoints.revoke_token, ActionResult, ReasonBody),
    ApiRoute("GET", "/openapi.json", PublicAccess.ANYONE, "The OpenAPI document", _openapi, dict[str, object]),
)
# fmt: on


def routes() -> list[web.RouteDef]:
    """Return the routes for aiohttp's router."""
    return [route.to_route_def() for route in ROUTES]
