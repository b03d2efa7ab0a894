"""The app's subscriptions to the journal, and their filters, over HTTP.

HubSpot's sources disagree on a second POST for the same thing, so the configuration decides it. Source: HubSpot's docs,
"Webhooks journal: subscriptions", and its API specification.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import count
from typing import Final

from aiohttp import web

from spokes.simulator.api.json_endpoint import Endpoint, json_object, json_response
from spokes.simulator.api.request_log import LoggedCall
from spokes.simulator.clock import Clock
from spokes.simulator.config import JournalConfig
from spokes.simulator.crm.records import iso
from spokes.simulator.errors import HubSpotError, JsonObject, invalid_request, missing_scopes
from spokes.simulator.journal.server import VERSIONS
from spokes.simulator.rate_limits import RollingWindow

READ_SCOPE: Final = "developer.webhooks_journal.subscriptions.read"
WRITE_SCOPE: Final = "developer.webhooks_journal.subscriptions.write"
_ACTIONS: Final = frozenset({
    "CREATE", "UPDATE", "DELETE", "MERGE", "RESTORE", "ASSOCIATION_ADDED", "ASSOCIATION_REMOVED", "SNAPSHOT",
    "APP_INSTALL", "APP_UNINSTALL", "ADDED_TO_LIST", "REMOVED_FROM_LIST", "GDPR_DELETE",
})  # fmt: skip
_OF_OBJECTS: Final = frozenset({"portalId", "objectTypeId", "actions"})
_REQUIRED: Final[Mapping[str, frozenset[str]]] = {
    "OBJECT": _OF_OBJECTS,
    "ASSOCIATION": _OF_OBJECTS,
    "GDPR_PRIVACY_DELETION": _OF_OBJECTS,
    "LIST_MEMBERSHIP": frozenset({"portalId", "listIds", "actions"}),
    "APP_LIFECYCLE_EVENT": frozenset({"eventTypeId"}),
}
_OPTIONAL: Final[Mapping[str, frozenset[str]]] = {
    "OBJECT": frozenset({"properties", "objectIds"}),
    "ASSOCIATION": frozenset({"associatedObjectTypeIds", "objectIds"}),
    "LIST_MEMBERSHIP": frozenset({"objectIds"}),
    "APP_LIFECYCLE_EVENT": frozenset({"properties"}),
}
_OPERATORS: Final = frozenset({
    "EQ", "N_EQ", "LT", "GT", "LTE", "GTE", "CONTAINS", "STARTS_WITH", "ENDS_WITH", "IN", "NOT_IN", "IS_EMPTY",
    "IS_NOT_EMPTY",
})  # fmt: skip
_OVER_LIMIT: Final = {"status": "error", "message": "You have reached your secondly limit.", "category": "RATE_LIMITS"}


@dataclass(slots=True)
class JournalSubscription:
    """A subscription: the fields that were sent, and its filters by id."""

    id: int
    fields: JsonObject
    created_at_ms: int
    filters: dict[int, JsonObject] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """What there is one subscription for."""
        fields = self.fields
        return tuple(fields.get(name) for name in ("subscriptionType", "portalId", "objectTypeId", "eventTypeId"))


class JournalSubscriptionApi:
    """The subscriptions of the app in all portals."""

    def __init__(
        self, config: JournalConfig, app_id: int, clock: Clock, scopes_of: Callable[[web.Request], frozenset[str]]
    ) -> None:
        """`scopes_of` returns the scopes of a request's token, and raises HubSpotError if it is not valid."""
        self.config = config
        self.subscriptions: dict[int, JournalSubscription] = {}
        self._app_id = app_id
        self._clock = clock
        self._scopes_of = scopes_of
        self._window = RollingWindow(1.0)
        self._ids = count(7_000_001)

    def add(self, **fields: object) -> JournalSubscription:
        """Add a subscription of another user of the app; its fields are not checked."""
        subscription = JournalSubscription(next(self._ids), dict(fields), self._clock.now_ms())
        self.subscriptions[subscription.id] = subscription
        return subscription

    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """Return the functions by method and path."""
        functions: Mapping[tuple[str, str], Endpoint] = {
            ("GET", ""): self._list,
            ("POST", ""): self._create,
            ("GET", r"/{id:\d+}"): self._read,
            ("DELETE", r"/{id:\d+}"): self._delete,
            ("DELETE", r"/portals/{id:\d+}"): self._delete_portal,
            ("POST", "/filters"): self._create_filter,
            ("GET", r"/filters/{id:\d+}"): self._read_filter,
            ("GET", r"/filters/subscription/{id:\d+}"): self._list_filters,
            ("DELETE", r"/filters/{id:\d+}"): self._delete_filter,
        }
        return {
            (method, f"/webhooks-journal/subscriptions/{version}{path}"): self._checked(
                READ_SCOPE if method == "GET" else WRITE_SCOPE, function
            )
            for version in VERSIONS
            for (method, path), function in functions.items()
        }

    def _checked(self, scope: str, function: Endpoint) -> Endpoint:
        """Return a function that checks token, scope and limit before it calls another one."""

        async def serve(request: web.Request, log: LoggedCall) -> web.Response:
            if scope not in self._scopes_of(request):
                raise missing_scopes([scope])
            now_s = self._clock.monotonic_s()
            if self._window.count(now_s) >= self.config.subscription_calls_secondly:
                return json_response(_OVER_LIMIT, HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": "1"})
            self._window.add(now_s)
            return await function(request, log)

        return serve

    async def _list(self, _request: web.Request, _log: LoggedCall) -> web.Response:
        return json_response({"results": [self._response(each) for each in self.subscriptions.values()]})

    async def _read(self, request: web.Request, _log: LoggedCall) -> web.Response:
        return json_response(self._response(self._find(request)))

    async def _create(self, request: web.Request, _log: LoggedCall) -> web.Response:
        new = JournalSubscription(next(self._ids), _checked_fields(await json_object(request)), self._clock.now_ms())
        known = next((each for each in self.subscriptions.values() if each.key == new.key), None)
        match self.config.second_post if known else "create":
            case "conflict":
                raise HubSpotError(HTTPStatus.CONFLICT, "CONFLICT", "The app has this subscription already.")
            case "keep":
                return json_response(self._response(known or new))
            case "replace" if known:
                new = replace(new, id=known.id, filters=known.filters)
            case "new_id" if known:
                del self.subscriptions[known.id]
        self.subscriptions[new.id] = new
        return json_response(self._response(new))

    async def _delete(self, request: web.Request, _log: LoggedCall) -> web.Response:
        del self.subscriptions[self._find(request).id]
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _delete_portal(self, request: web.Request, _log: LoggedCall) -> web.Response:
        portal_id = int(request.match_info["id"])
        self.subscriptions = {
            id_: each for id_, each in self.subscriptions.items() if each.fields.get("portalId") != portal_id
        }
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _create_filter(self, request: web.Request, _log: LoggedCall) -> web.Response:
        body = await json_object(request)
        subscription = self.subscriptions.get(body.get("subscriptionId", 0))
        filter_ = body.get("filter")
        if subscription is None or not isinstance(filter_, dict) or not _are_conditions(filter_.get("conditions")):
            raise invalid_request("Some required fields were not set: [subscriptionId, filter]")
        id_ = next(self._ids)
        subscription.filters[id_] = filter_
        return json_response({"filterId": id_})

    async def _read_filter(self, request: web.Request, _log: LoggedCall) -> web.Response:
        subscription, id_ = self._find_filter(request)
        return json_response(self._filter_response(subscription, id_))

    async def _list_filters(self, request: web.Request, _log: LoggedCall) -> web.Response:
        subscription = self._find(request)
        return json_response([self._filter_response(subscription, id_) for id_ in subscription.filters])

    async def _delete_filter(self, request: web.Request, _log: LoggedCall) -> web.Response:
        subscription, id_ = self._find_filter(request)
        del subscription.filters[id_]
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _find(self, request: web.Request) -> JournalSubscription:
        id_ = int(request.match_info["id"])
        if id_ not in self.subscriptions:
            raise HubSpotError(HTTPStatus.NOT_FOUND, "OBJECT_NOT_FOUND", f"No subscription with the id {id_}")
        return self.subscriptions[id_]

    def _find_filter(self, request: web.Request) -> tuple[JournalSubscription, int]:
        id_ = int(request.match_info["id"])
        for each in self.subscriptions.values():
            if id_ in each.filters:
                return each, id_
        raise HubSpotError(HTTPStatus.NOT_FOUND, "OBJECT_NOT_FOUND", f"No filter with the id {id_}")

    def _response(self, subscription: JournalSubscription) -> JsonObject:
        at = iso(subscription.created_at_ms)
        empty = {"objectTypeId": "", "actions": []}
        return {
            **empty, **subscription.fields, "id": subscription.id, "appId": self._app_id, "createdAt": at,
            "updatedAt": at,
        }  # fmt: skip

    def _filter_response(self, subscription: JournalSubscription, id_: int) -> JsonObject:
        return {"id": id_, "createdAt": subscription.created_at_ms, "filter": subscription.filters[id_]}


def _checked_fields(body: JsonObject) -> JsonObject:
    """Return the fields of a new subscription.

    Raises:
        HubSpotError: 400.
    """
    type_ = str(body.get("subscriptionType"))
    if type_ not in _REQUIRED:
        raise invalid_request(f"Invalid subscriptionType. Valid values: {', '.join(sorted(_REQUIRED))}")
    required, optional = _REQUIRED[type_], _OPTIONAL.get(type_, frozenset())
    if missing := sorted(name for name in required if not body.get(name)):
        raise invalid_request(f"Some required fields were not set: [{', '.join(missing)}]")
    if unknown := body.keys() - required - optional - {"subscriptionType"}:
        raise invalid_request(f"Unrecognized fields: {', '.join(sorted(unknown))}")
    actions = body.get("actions", [])
    if not isinstance(actions, list) or not _ACTIONS.issuperset(map(str, actions)):
        raise invalid_request(f"Invalid actions. Valid values: {', '.join(sorted(_ACTIONS))}")
    if type(body.get("portalId", 1)) is not int:
        raise invalid_request("portalId must be a number")
    return body


def _are_conditions(conditions: object) -> bool:
    """Return whether the conditions of a filter have the form that HubSpot describes."""
    if not isinstance(conditions, list) or not conditions:
        return False
    return all(
        isinstance(each, dict)
        and each.get("filterType") == "CRM_OBJECT_PROPERTY"
        and bool(each.get("property"))
        and each.get("operator") in _OPERATORS
        and ("values" in each) == (each["operator"] in {"IN", "NOT_IN"})
        for each in conditions
    )
