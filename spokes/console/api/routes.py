"""The routes of the API, as one list. Rule: what stands here is served and described; nothing else is."""

from typing import Final

from aiohttp import web

from spokes.console.accounts.policy import Permission, PublicAccess
from spokes.console.api import account_endpoints as people
from spokes.console.api import action_endpoints as acting
from spokes.console.api import privacy_endpoints as privacy
from spokes.console.api import read_endpoints as looking
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
    PersonBody,
    ReasonBody,
    TimelineQuery,
)
from spokes.console.api.response_schemas import ActionResult, DeadLetterView, DeliveryView, EventView, TimelineView
from spokes.console.api.route import ApiRoute
from spokes.console.queries.budgets import PortalBudget
from spokes.console.queries.deliveries import DeliverySummary
from spokes.console.queries.privacy_requests import PrivacyRequestView
from spokes.console.queries.queue import Queue
from spokes.console.queries.records import Page, RecordView
from spokes.console.web.audit_export import export_records
from spokes.queue.portal_pauses import PortalPause

_KEY: Final = r"{key:[\w.:=+-]{1,200}}"
_PORTAL: Final = r"{portal:\d{1,18}}"
_NAME: Final = r"{name:[\w.:@+-]{1,200}}"
_ID: Final = r"{id:[\w.:-]{1,200}}"
_DEAD_LETTER: Final = f"/dead-letters/{_PORTAL}/{_KEY}"
_LOOK, _AUDIT, _SETTLE, _PAUSE = Permission.LOOK, Permission.AUDIT, Permission.SETTLE, Permission.PAUSE


async def _export(request: web.Request, _: ExportQuery) -> web.StreamResponse:
    return await export_records(request)


async def _openapi(_: web.Request, __: None) -> dict[str, object]:
    return document(ROUTES)


ROUTES: Final = (
    ApiRoute("GET", "/queue", _LOOK, "What waits, for how long, and what is paused", looking.get_queue, Queue),
    ApiRoute(
        "GET", "/budget", _LOOK, "How much of HubSpot's limits is in use", looking.get_budget, tuple[PortalBudget, ...]
    ),
    ApiRoute(
        "GET",
        "/deliveries",
        _LOOK,
        "What was received, the newest first",
        looking.get_deliveries,
        Page[DeliverySummary],
        DeliveryQuery,
    ),
    ApiRoute("GET", r"/deliveries/{id:[\w.:-]{1,200}}", _LOOK, "One delivery", looking.get_delivery, DeliveryView),
    ApiRoute(
        "GET",
        "/events",
        _LOOK,
        "What became of events, the newest first",
        looking.get_events,
        Page[RecordView],
        EventQuery,
    ),
    ApiRoute("GET", f"/events/{_KEY}", _LOOK, "One event through all its attempts", looking.get_event, EventView),
    ApiRoute(
        "GET",
        "/timeline",
        _LOOK,
        "All that happened to a CRM object",
        looking.get_timeline,
        TimelineView,
        TimelineQuery,
    ),
    ApiRoute(
        "GET",
        "/dead-letters",
        _LOOK,
        "Events that could not be processed",
        acting.get_dead_letters,
        Page[DeadLetterView],
        DeadLetterQuery,
    ),
    ApiRoute("GET", _DEAD_LETTER, _LOOK, "One dead letter", acting.get_dead_letter, DeadLetterView),
    ApiRoute(
        "POST", f"{_DEAD_LETTER}/replay", _SETTLE, "Queue a dead letter again", acting.replay, ActionResult, ReasonBody
    ),
    ApiRoute(
        "POST",
        f"{_DEAD_LETTER}/discard",
        _SETTLE,
        "End a dead letter for good",
        acting.discard,
        ActionResult,
        ReasonBody,
    ),
    ApiRoute(
        "POST",
        "/dead-letters/replay",
        _SETTLE,
        "Queue many dead letters again",
        acting.replay_many,
        ActionResult,
        DeadLetterSelection,
    ),
    ApiRoute(
        "POST",
        "/dead-letters/discard",
        _SETTLE,
        "End many dead letters for good",
        acting.discard_many,
        ActionResult,
        DeadLetterSelection,
    ),
    ApiRoute(
        "POST", f"/portals/{_PORTAL}/pause", _PAUSE, "Let a portal's work wait", acting.pause, PortalPause, ReasonBody
    ),
    ApiRoute(
        "POST",
        f"/portals/{_PORTAL}/resume",
        _PAUSE,
        "Let a portal's work go on",
        acting.resume,
        ActionResult,
        ReasonBody,
    ),
    ApiRoute(
        "GET",
        "/audit",
        _AUDIT,
        "Records of the audit, the newest first",
        looking.get_audit_records,
        Page[RecordView],
        AuditQuery,
    ),
    ApiRoute(
        "GET",
        "/audit/export",
        Permission.EXPORT,
        "Records of the audit as lines, the oldest first",
        _export,
        request_type=ExportQuery,
        stream_types=("application/x-ndjson", "text/csv"),
    ),
    ApiRoute(
        "GET",
        "/audit/verify",
        _AUDIT,
        "Recompute the audit's chain of hashes",
        looking.get_chain_verification,
        dict[str, object],
    ),
    ApiRoute(
        "GET",
        "/privacy-requests",
        Permission.PRIVACY,
        "What people have asked for",
        looking.get_privacy_requests,
        tuple[PrivacyRequestView, ...],
    ),
    ApiRoute(
        "POST",
        "/privacy-requests",
        Permission.PRIVACY,
        "Have somebody erased; a worker does it within the hour",
        privacy.create_erasure_request,
        PrivacyRequestView,
        ErasureBody,
    ),
    ApiRoute(
        "GET",
        f"/privacy-requests/{_ID}",
        Permission.PRIVACY,
        "One request, and how far it has come",
        privacy.get_privacy_request,
        PrivacyRequestView,
    ),
    ApiRoute(
        "POST",
        "/privacy-exports",
        Permission.PRIVACY,
        "Everything that is held on somebody, with its values",
        privacy.export_person,
        dict[str, object],
        PersonBody,
    ),
    ApiRoute("GET", "/users", Permission.USERS, "Who has an account", people.get_users, tuple[Account, ...]),
    ApiRoute(
        "POST",
        f"/users/{_NAME}/logout",
        Permission.USERS,
        "End all sessions of somebody",
        people.end_sessions,
        ActionResult,
        ReasonBody,
    ),
    ApiRoute(
        "POST",
        f"/tokens/{_ID}/revoke",
        Permission.USERS,
        "Take a token back",
        people.revoke_token,
        ActionResult,
        ReasonBody,
    ),
    ApiRoute("GET", "/openapi.json", PublicAccess.ANYONE, "This description", _openapi, dict[str, object]),
)


def routes() -> list[web.RouteDef]:
    """Return the routes as the router takes them."""
    return [route.to_route_def() for route in ROUTES]
