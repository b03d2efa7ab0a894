"""The webhooks API of a legacy public app: settings and subscriptions, with the developer API key in the query.

Forms are checked strictly: in dated versions `active` is required, a property change names one property, a generic
subscription its object type, and no other field is accepted. Source: HubSpot's API specifications, "Webhooks".
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from spokes.simulator.api.json_endpoint import Endpoint, json_object, json_response
from spokes.simulator.api.request_log import LoggedCall
from spokes.simulator.clock import Clock
from spokes.simulator.config import Subscription
from spokes.simulator.crm.records import iso
from spokes.simulator.errors import HubSpotError, JsonObject, invalid_request, not_authenticated
from spokes.simulator.webhooks.subscriptions import Subscriptions

MAX_SUBSCRIPTIONS: Final = 1_000
_ROOTS: Final = ("/webhooks/v3", "/webhooks/2026-03", "/app-webhooks/2025-09", "/app-webhooks/2026-09")
_NUMBERED: Final = "/webhooks/v3"
MIN_CONCURRENT_REQUESTS: Final = 6
_RECORD_KINDS: Final = ("creation", "deletion", "propertyChange", "merge", "restore", "associationChange")
EVENT_TYPES: Final = frozenset(
    {
        *(f"{family}.{kind}" for family in ("contact", "company", "deal", "ticket", "line_item", "object")
          for kind in _RECORD_KINDS),
        *(f"product.{kind}" for kind in _RECORD_KINDS if kind != "associationChange"),
        *(f"conversation.{kind}" for kind in
          ("creation", "deletion", "privacyDeletion", "propertyChange", "newMessage")),
        "contact.privacyDeletion",
        "event.completed",
    }
)  # fmt: skip
_FIELDS: Final = frozenset({"eventType", "active", "propertyName", "objectTypeId", "eventTypeName"})


class PushSubscriptionApi:
    """The settings and subscriptions of the app; each account that has it sends the events of its subscriptions."""

    def __init__(
        self, developer_key: str, app_id: int, subscriptions: Mapping[int, Subscriptions], clock: Clock
    ) -> None:
        """Serve the app of `subscriptions`, which has those of each account; they are the same in all."""
        self._key = developer_key
        self._app_id = str(app_id)
        self._accounts = subscriptions
        self._clock = clock
        self._created_at: dict[int, int] = {}
        self._started_at = clock.now_ms()
        self.settings: JsonObject | None = None

    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """Return the functions by method and path."""
        functions: Mapping[tuple[str, str], Endpoint] = {
            ("GET", "/settings"): self._read_settings,
            ("PUT", "/settings"): self._write_settings,
            ("DELETE", "/settings"): self._delete_settings,
            ("GET", "/subscriptions"): self._list,
            ("POST", "/subscriptions"): self._create,
            ("POST", "/subscriptions/batch/update"): self._update_batch,
            ("GET", r"/subscriptions/{id:\d+}"): self._read,
            ("PATCH", r"/subscriptions/{id:\d+}"): self._update,
            ("DELETE", r"/subscriptions/{id:\d+}"): self._delete,
        }
        return {
            (method, f"{root}/{{app_id}}{rest}"): self._checked(function)
            for root in _ROOTS
            for (method, rest), function in functions.items()
        }

    def _checked(self, function: Endpoint) -> Endpoint:
        """Return a function that checks key and app before it calls another one."""

        async def serve(request: web.Request, log: LoggedCall) -> web.Response:
            if request.query.get("hapikey") != self._key:
                raise not_authenticated()
            if request.match_info["app_id"] != self._app_id:
                raise HubSpotError(HTTPStatus.NOT_FOUND, "OBJECT_NOT_FOUND", "No app with this id")
            return await function(request, log)

        return serve

    async def _read_settings(self, _request: web.Request, _log: LoggedCall) -> web.Response:
        if self.settings is None:
            raise HubSpotError(HTTPStatus.NOT_FOUND, "OBJECT_NOT_FOUND", "The app has no webhook settings")
        return json_response(self.settings)

    async def _write_settings(self, request: web.Request, _log: LoggedCall) -> web.Response:
        body = await _body(request, allowed={"targetUrl", "throttling"})
        target, throttling = body.get("targetUrl"), body.get("throttling")
        limit = throttling.get("maxConcurrentRequests") if isinstance(throttling, dict) else None
        if not isinstance(target, str) or not target.startswith("https://"):
            raise invalid_request("targetUrl must be an https URL")
        if type(limit) is not int or limit < MIN_CONCURRENT_REQUESTS:
            raise invalid_request("throttling.maxConcurrentRequests must be greater than 5")
        now = iso(self._clock.now_ms())
        created = self.settings["createdAt"] if self.settings else now
        self.settings = {
            "targetUrl": target,
            "throttling": {"maxConcurrentRequests": limit},
            "createdAt": created,
            "updatedAt": now,
        }
        return json_response(self.settings)

    async def _delete_settings(self, _request: web.Request, _log: LoggedCall) -> web.Response:
        self.settings = None
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _list(self, _request: web.Request, _log: LoggedCall) -> web.Response:
        return json_response({"results": [self._fields(each) for each in self._all()]})

    async def _create(self, request: web.Request, _log: LoggedCall) -> web.Response:
        body = await _body(request, allowed=_FIELDS)
        subscription = _subscription(body, needs_active=not request.path.startswith(_NUMBERED))
        if len(self._all()) >= MAX_SUBSCRIPTIONS:
            raise invalid_request(f"The app has reached the limit of {MAX_SUBSCRIPTIONS} subscriptions.")
        if any(_key(each) == _key(subscription) for each in self._all()):
            raise HubSpotError(HTTPStatus.CONFLICT, "CONFLICT", "The app has this subscription already.")
        first, *others = self._accounts.values()
        created = first.add(subscription)
        for account in others:
            account.add(created)
        self._created_at[created.subscription_id] = self._clock.now_ms()
        location = f"{request.path}/{created.subscription_id}"
        return json_response(self._fields(created), HTTPStatus.CREATED, {"Location": location})

    async def _read(self, request: web.Request, _log: LoggedCall) -> web.Response:
        return json_response(self._fields(self._find(int(request.match_info["id"]))))

    async def _update(self, request: web.Request, _log: LoggedCall) -> web.Response:
        id_ = self._find(int(request.match_info["id"])).subscription_id
        self._set_active(id_, await _body(request, allowed={"active"}))
        return json_response(self._fields(self._find(id_)))

    async def _delete(self, request: web.Request, _log: LoggedCall) -> web.Response:
        id_ = self._find(int(request.match_info["id"])).subscription_id
        for account in self._accounts.values():
            account.remove(id_)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _update_batch(self, request: web.Request, _log: LoggedCall) -> web.Response:
        inputs = (await _body(request, allowed={"inputs"})).get("inputs")
        if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
            raise invalid_request("Some required fields were not set: [inputs]")
        started = iso(self._clock.now_ms())
        results: list[JsonObject] = []
        errors: list[JsonObject] = []
        for each in inputs:
            if each.keys() != {"id", "active"} or type(each["id"]) is not int:
                raise invalid_request("Some required fields were not set: [id, active]")
            try:
                self._find(each["id"])
                self._set_active(each["id"], {"active": each["active"]})
                results.append(self._fields(self._find(each["id"])))
            except HubSpotError as error:
                errors.append(error.entry())
        body: JsonObject = {"status": "COMPLETE", "results": results, "startedAt": started, "completedAt": started}
        if errors:
            return json_response({**body, "numErrors": len(errors), "errors": errors}, HTTPStatus.MULTI_STATUS)
        return json_response(body)

    def _set_active(self, id_: int, body: JsonObject) -> None:
        if type(body.get("active")) is not bool:
            raise invalid_request("Some required fields were not set: [active]")
        for account in self._accounts.values():
            account.set_active(id_, is_active=body["active"])

    def _all(self) -> list[Subscription]:
        return next(iter(self._accounts.values())).active

    def _find(self, id_: int) -> Subscription:
        for each in self._all():
            if each.subscription_id == id_:
                return each
        raise HubSpotError(HTTPStatus.NOT_FOUND, "OBJECT_NOT_FOUND", f"No subscription with the id {id_}")

    def _fields(self, subscription: Subscription) -> JsonObject:
        at = iso(self._created_at.get(subscription.subscription_id, self._started_at))
        fields: JsonObject = {
            "id": subscription.subscription_id,
            "eventType": subscription.subscription_type,
            "active": subscription.active,
            "createdAt": at,
            "updatedAt": at,
        }
        if subscription.property_name is not None:
            fields["propertyName"] = subscription.property_name
        if subscription.object_type is not None:
            fields["objectTypeId"] = subscription.object_type
        return fields


def _key(subscription: Subscription) -> tuple[str, str | None, str | None]:
    return subscription.subscription_type, subscription.property_name, subscription.object_type


def _subscription(body: JsonObject, *, needs_active: bool) -> Subscription:
    event_type, active = body.get("eventType"), body.get("active", None if needs_active else False)
    name, type_id = body.get("propertyName"), body.get("objectTypeId")
    if not isinstance(event_type, str) or event_type not in EVENT_TYPES:
        raise invalid_request(f"Invalid eventType. Valid values: {', '.join(sorted(EVENT_TYPES))}")
    if type(active) is not bool:
        raise invalid_request("Some required fields were not set: [active]")
    if (event_type.endswith(".propertyChange")) != (isinstance(name, str) and bool(name)):
        raise invalid_request("propertyName is required for property changes, and only for these")
    if event_type.startswith("object.") != (isinstance(type_id, str) and bool(type_id)):
        raise invalid_request("objectTypeId is required for object.*, and only for these")
    return Subscription(event_type, name, type_id, active)


async def _body(request: web.Request, *, allowed: Iterable[str]) -> JsonObject:
    """Return the JSON object of the body, which has no other fields than these."""
    body = await json_object(request)
    if unknown := body.keys() - set(allowed):
        raise invalid_request(f"Unrecognized fields: {', '.join(sorted(unknown))}")
    return body
