"""Serve every CRM call: check token, limits, faults and scopes, call the endpoint, log the call.

The order of the checks is HubSpot's. Only this module connects HTTP to the endpoints.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from random import Random
from typing import NamedTuple
from uuid import UUID

import orjson
from aiohttp import web

from spokes.simulator.api.call import Call, Endpoint, EndpointResponse
from spokes.simulator.api.faults import Fault, FaultBody, Faults, draw_latency_s, fault_content
from spokes.simulator.api.request_log import LoggedCall, RequestLog
from spokes.simulator.clock import Clock
from spokes.simulator.config import Latency
from spokes.simulator.crm.object_types import required_scopes
from spokes.simulator.errors import HubSpotError, endpoint_not_found, missing_scopes, not_authenticated
from spokes.simulator.oauth.installs import Installs
from spokes.simulator.oauth.refusals import OAuthRefusal
from spokes.simulator.portal import Portal, TokenState
from spokes.simulator.rate_limits import Meter, rate_limit_body

_JSON = "application/json"


class _Caller(NamedTuple):
    """Whose token a call has, and its scopes; None for all."""

    portal: Portal
    scopes: frozenset[str] | None
    is_oauth: bool = False


class Gateway:
    """Serves the endpoints for all portals."""

    def __init__(
        self,
        portals: Mapping[int, Portal],
        installs: Installs,
        *,
        clock: Clock,
        faults: Faults,
        requests: RequestLog,
        latency: Latency,
        rng: Random,
    ) -> None:
        self.latency = latency
        self._all_portals = portals
        self._installs = installs
        self._portals = {token: portal for portal in portals.values() for token in portal.token_states}
        self._clock = clock
        self._faults = faults
        self._requests = requests
        self._rng = rng

    def routes(self, endpoints: Iterable[Endpoint]) -> list[web.RouteDef]:
        """Return the routes of the API; all other paths return a 404, and are logged too."""
        routes = [
            web.route(endpoint.method, path, self._handler(endpoint))
            for endpoint in endpoints
            for path in endpoint.paths
        ]
        return [*routes, web.route("*", "/{tail:.*}", self._handler(None))]

    def oauth_routes(
        self, functions: Mapping[tuple[str, str], Callable[[web.Request, LoggedCall], Awaitable[web.Response]]]
    ) -> list[web.RouteDef]:
        """Return the routes of functions that check their caller themselves; faults apply to them too."""
        return [
            web.route(method, path, self._oauth_handler(function)) for (method, path), function in functions.items()
        ]

    def replace_token(self, portal: Portal, token: str) -> None:
        """Give a portal one new valid token; its earlier tokens are unknown from now on."""
        portal.replace_tokens(token)
        others = {other: of for other, of in self._portals.items() if of is not portal}
        self._portals = {**others, token: portal}

    def _handler(self, endpoint: Endpoint | None) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            started_s = self._clock.monotonic_s()
            agent = request.headers.get("User-Agent", "")
            log = self._requests.add(LoggedCall(self._clock.now_ms(), request.method, request.path, user_agent=agent))
            try:
                response = await self._serve(request, endpoint, log)
            except ConnectionError:  # the caller closed the connection before it sent the whole request
                log.status = 0
                response = web.Response()
            log.latency_ms = (self._clock.monotonic_s() - started_s) * 1000
            return response

        return handle

    def _oauth_handler(
        self, function: Callable[[web.Request, LoggedCall], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            agent = request.headers.get("User-Agent", "")
            log = self._requests.add(LoggedCall(self._clock.now_ms(), request.method, request.path, user_agent=agent))
            fault = self._faults.choose(request.method, request.path, None)
            is_late = fault is not None and fault.after_effect
            if not is_late:
                await self._apply_latency(fault)
            if fault is not None and not fault.after_effect and _replaces_response(fault):
                return _fault_response(request, log, fault, {})
            try:
                response = await function(request, log)
            except HubSpotError as error:
                body = orjson.dumps(error.body(self._correlation_id()))
                response = web.Response(body=body, status=error.status, content_type=_JSON)
            except OAuthRefusal as refusal:
                response = web.Response(
                    body=orjson.dumps(refusal.body(self._correlation_id())), status=refusal.status, content_type=_JSON
                )
            if is_late:
                await self._apply_latency(fault)
            if fault is not None and _replaces_response(fault):
                return _fault_response(request, log, fault, {})
            log.status = response.status
            return response

        return handle

    async def _serve(self, request: web.Request, endpoint: Endpoint | None, log: LoggedCall) -> web.Response:
        headers: dict[str, str] = {}
        fault: Fault | None = None
        try:
            caller = await self._caller(request, endpoint)
            portal = caller.portal
            log.portal_id = portal.config.portal_id
            meter = endpoint.meter if endpoint else Meter.ORDINARY
            policy = portal.limiter.count_call(meter)
            if policy is not None:
                log.policy = str(policy)
                body = rate_limit_body(policy, self._correlation_id())
                headers = portal.limiter.refusal_headers(meter, policy, has_daily=not caller.is_oauth)
                return _response(log, EndpointResponse(HTTPStatus.TOO_MANY_REQUESTS, body), headers)
            headers = portal.limiter.headers(meter, has_daily=not caller.is_oauth)
            fault = self._faults.choose(request.method, request.path, portal.config.portal_id)
            is_late = fault is not None and fault.after_effect
            if not is_late:
                await self._apply_latency(fault)
            body_bytes = await request.read()
            if fault is not None and not fault.after_effect and _replaces_response(fault):
                return _fault_response(request, log, fault, headers)
            call = Call(portal, request.match_info, request.query, body_bytes, log)
            response = self._respond(call, endpoint, caller.scopes)
            if is_late:
                await self._apply_latency(fault)
        except HubSpotError as error:
            response = EndpointResponse(error.status, error.body(self._correlation_id()))
        if fault is not None and _replaces_response(fault):
            return _fault_response(request, log, fault, headers)
        return _response(log, response, headers)

    def _respond(self, call: Call, endpoint: Endpoint | None, granted: frozenset[str] | None) -> EndpointResponse:
        """Call the endpoint if the token has the required scopes."""
        if endpoint is None:
            raise endpoint_not_found()
        for name in endpoint.type_parts:
            type_ = call.object_type(name)
            call.log.type_id = call.log.type_id or type_.type_id
            needed = required_scopes(type_, write=endpoint.writes)
            if granted is not None and granted.isdisjoint(needed):
                raise missing_scopes(needed)
        return endpoint.respond(call)

    async def _caller(self, request: web.Request, endpoint: Endpoint | None) -> _Caller:
        """Return whose token it is; it is in the Authorization header or, for token info, in the body."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if endpoint is not None and endpoint.anonymous:
            token = _token_key(await request.read())
        elif scheme.lower() != "bearer":
            raise not_authenticated()
        elif (access := self._installs.access(token)) is not None:
            if self._installs.is_expired(access):
                raise not_authenticated(expired=True)
            return _Caller(self._all_portals[access.portal_id], access.scopes, is_oauth=True)
        portal = self._portals.get(token)
        if portal is None or portal.token_states[token] is TokenState.REVOKED:
            raise not_authenticated()
        if portal.token_states[token] is TokenState.EXPIRED:
            raise not_authenticated(expired=True)
        return _Caller(portal, portal.config.scopes)

    async def _apply_latency(self, fault: Fault | None) -> None:
        latency = fault.latency if fault is not None and fault.latency is not None else self.latency
        delay_s = draw_latency_s(latency, self._rng)
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    def _correlation_id(self) -> str:
        return str(UUID(int=self._rng.getrandbits(128), version=4))


def _response(log: LoggedCall, response: EndpointResponse, headers: dict[str, str]) -> web.Response:
    log.status = response.status
    if response.body is None:
        return web.Response(status=response.status, headers=headers)
    return web.Response(body=orjson.dumps(response.body), status=response.status, headers=headers, content_type=_JSON)


def _replaces_response(fault: Fault) -> bool:
    return fault.reset or fault.status is not None


def _fault_response(request: web.Request, log: LoggedCall, fault: Fault, headers: dict[str, str]) -> web.Response:
    """Return the injected response, or abort the connection."""
    log.fault = True
    if fault.status is None or fault.reset:
        log.status = 0
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    log.status = fault.status
    body, content_type = fault_content(fault, fault.status)
    if fault.retry_after is not None:
        headers = {**headers, "Retry-After": fault.retry_after}
    if fault.body is FaultBody.BAD_GZIP:
        headers = {**headers, "Content-Encoding": "gzip"}
    return web.Response(body=body, status=fault.status, headers=headers, content_type=content_type)


def _token_key(body: bytes) -> str:
    """Return the token in `{"tokenKey": "..."}`, or "" for any other body."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(value.get("tokenKey", "")) if isinstance(value, dict) else ""
