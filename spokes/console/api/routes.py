"""The routes of the API, as one list. Rule: what stands here is served and described; nothing else is."""

from typing import Final

from aiohttp import web

from spokes.console.accounts.policy import Door, Permission
from spokes.console.api import account_endpoints as people
from spokes.console.api import action_endpoints as acting
from spokes.console.api import privacy_endpoints as privacy
from spokes.console.api import read_endpoints as looking
from spokes.console.api.account_endpoints import Account
from spokes.console.api.openapi import document
from spokes.console.api.request_schemas import (
    Because,
    Erasing,
    OfAudit,
    OfDeliveries,
    OfEvents,
    OfExport,
    OfLetters,
    OfObject,
    OfPerson,
    Settling,
)
from spokes.console.api.response_schemas import Done, Letter, OneDelivery, OneEvent, OneTimeline
from spokes.console.api.route import Route
from spokes.console.queries.budgets import PortalBudget
from spokes.console.queries.deliveries import Received
from spokes.console.queries.privacy_requests import Asked
from spokes.console.queries.queue import Queue
from spokes.console.queries.records import Page, Recorded
from spokes.console.web.audit_export import export
from spokes.queue.portal_pauses import Pause

_KEY: Final = r"{key:[\w.:=+-]{1,200}}"
_PORTAL: Final = r"{portal:\d{1,18}}"
_NAME: Final = r"{name:[\w.:@+-]{1,200}}"
_ID: Final = r"{id:[\w.:-]{1,200}}"
_LETTER: Final = f"/dead-letters/{_PORTAL}/{_KEY}"
_LOOK, _AUDIT, _SETTLE, _PAUSE = Permission.LOOK, Permission.AUDIT, Permission.SETTLE, Permission.PAUSE


async def _export(request: web.Request, _: OfExport) -> web.StreamResponse:
    return await export(request)


async def _openapi(_: web.Request, __: None) -> dict[str, object]:
    return document(ROUTES)


# fmt: off
ROUTES: Final = (
    Route("GET", "/queue", _LOOK, "What waits, for how long, and what is paused", looking.see_queue, Queue),
    Route("GET", "/budget", _LOOK, "How much of HubSpot's limits is in use",
          looking.see_budget, tuple[PortalBudget, ...]),
    Route("GET", "/deliveries", _LOOK, "What was received, the newest first",
          looking.see_deliveries, Page[Received], OfDeliveries),
    Route("GET", r"/deliveries/{id:[\w.:-]{1,200}}", _LOOK, "One delivery", looking.see_delivery, OneDelivery),
    Route("GET", "/events", _LOOK, "What became of events, the newest first",
          looking.see_events, Page[Recorded], OfEvents),
    Route("GET", f"/events/{_KEY}", _LOOK, "One event through all its attempts", looking.see_event, OneEvent),
    Route("GET", "/timeline", _LOOK, "All that happened to a CRM object",
          looking.see_timeline, OneTimeline, OfObject),
    Route("GET", "/dead-letters", _LOOK, "Events that could not be processed",
          acting.see_letters, Page[Letter], OfLetters),
    Route("GET", _LETTER, _LOOK, "One dead letter", acting.see_letter, Letter),
    Route("POST", f"{_LETTER}/replay", _SETTLE, "Queue a dead letter again", acting.replay, Done, Because),
    Route("POST", f"{_LETTER}/discard", _SETTLE, "End a dead letter for good", acting.discard, Done, Because),
    Route("POST", "/dead-letters/replay", _SETTLE, "Queue many dead letters again",
          acting.replay_many, Done, Settling),
    Route("POST", "/dead-letters/discard", _SETTLE, "End many dead letters for good",
          acting.discard_many, Done, Settling),
    Route("POST", f"/portals/{_PORTAL}/pause", _PAUSE, "Let a portal's work wait", acting.pause, Pause, Because),
    Route("POST", f"/portals/{_PORTAL}/resume", _PAUSE, "Let a portal's work go on", acting.resume, Done, Because),
    Route("GET", "/audit", _AUDIT, "Records of the audit, the newest first",
          looking.see_audit, Page[Recorded], OfAudit),
    Route("GET", "/audit/export", Permission.EXPORT, "Records of the audit as lines, the oldest first",
          _export, takes=OfExport, streams=("application/x-ndjson", "text/csv")),
    Route("GET", "/audit/verify", _AUDIT, "Recompute the audit's chain of hashes",
          looking.see_chain, dict[str, object]),
    Route("GET", "/privacy-requests", Permission.PRIVACY, "What people have asked for",
          looking.see_privacy_requests, tuple[Asked, ...]),
    Route("POST", "/privacy-requests", Permission.PRIVACY, "Have somebody erased; a worker does it within the hour",
          privacy.ask_for_erasure, Asked, Erasing),
    Route("GET", f"/privacy-requests/{_ID}", Permission.PRIVACY, "One request, and how far it has come",
          privacy.see_request, Asked),
    Route("POST", "/privacy-exports", Permission.PRIVACY, "Everything that is held on somebody, with its values",
          privacy.show_person, dict[str, object], OfPerson),
    Route("GET", "/users", Permission.USERS, "Who has an account", people.see_users, tuple[Account, ...]),
    Route("POST", f"/users/{_NAME}/logout", Permission.USERS, "End all sessions of somebody",
          people.end_sessions, Done, Because),
    Route("POST", f"/tokens/{_ID}/revoke", Permission.USERS, "Take a token back",
          people.revoke_token, Done, Because),
    Route("GET", "/openapi.json", Door.ANYONE, "This description", _openapi, dict[str, object]),
)
# fmt: on


def routes() -> list[web.RouteDef]:
    """Return the routes as the router takes them."""
    return [route.mount() for route in ROUTES]
