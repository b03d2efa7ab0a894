"""`ApiRoute`: one declared route of the API.

The declaration parses query and body, serialises the response, sets the access rule, and is the source of the OpenAPI
document.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from spokes.console.accounts.policy import AccessRule, requires
from spokes.console.queries.history.records import Page
from spokes.core.errors import HttpProblem

PREFIX: Final = "/api/v1"
_JSON: Final = "application/json"
_MAX_FAULTS: Final = 10  # in one error sentence


@dataclass(frozen=True)
class ApiRoute:
    """A route: `endpoint(request, parameters)` returns a `response_type`.

    `parameters` is the query of a GET or the body of a POST, parsed as `request_type`; None without one. An endpoint
    with `stream_types` returns the whole response itself.
    """

    method: str
    path: str
    rule: AccessRule
    summary: str
    endpoint: Callable[[web.Request, Any], Awaitable[Any]]
    response_type: Any = None
    request_type: Any = None
    stream_types: tuple[str, ...] = field(default=(), kw_only=True)  # media types of a streamed response

    @cached_property
    def request_adapter(self) -> TypeAdapter[Any]:
        """Parses query or body."""
        return TypeAdapter(self.request_type)

    @cached_property
    def response_adapter(self) -> TypeAdapter[Any]:
        """Serialises the response."""
        return TypeAdapter(self.response_type)

    def to_route_def(self) -> web.RouteDef:
        """Return the route for aiohttp's router."""

        async def handle(request: web.Request) -> web.StreamResponse:
            result = await self.endpoint(request, await self._parse_request(request))
            if isinstance(result, web.StreamResponse):
                return result
            response = web.Response(body=self.response_adapter.dump_json(result), content_type=_JSON)
            if isinstance(result, Page) and result.next is not None:
                next_page = request.rel_url.update_query(after=result.next)
                response.headers["Link"] = f'<{next_page}>; rel="next"'
            return response

        return web.route(self.method, PREFIX + self.path, requires(self.rule)(handle), name=None)

    @staticmethod
    def _read_query(request: web.Request) -> object:
        parameters = dict(request.query)
        if len(request.query) != len(parameters):
            raise HttpProblem(422, "wrong_query", "A parameter occurs twice.")
        return parameters

    @staticmethod
    async def _read_body(request: web.Request) -> object:
        if request.content_type != _JSON:
            raise HttpProblem(415, "not_json", "Send the body as application/json.")
        try:
            return orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            raise HttpProblem(422, "not_json", "The body is not JSON.") from None

    async def _parse_request(self, request: web.Request) -> Any:
        """Parse query or body.

        Raises:
            HttpProblem: 415, the content type is not JSON; 422, it does not match the route's `request_type`.
        """
        if self.request_type is None:
            return None
        parameters = self._read_query(request) if self.method == "GET" else await self._read_body(request)
        if _contains_nul(parameters):
            raise HttpProblem(422, "wrong_text", "A text contains the character NUL.")
        try:
            if self.method == "GET":
                return self.request_adapter.validate_python(parameters)
            # Strict: `"portal_id": false` must not be read as portal 0.
            return self.request_adapter.validate_json(await request.read(), strict=True)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_FAULTS]
            detail = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
            raise HttpProblem(422, "wrong_query" if self.method == "GET" else "wrong_body", detail) from None


def _contains_nul(value: object) -> bool:
    """Return whether any text contains NUL, which PostgreSQL rejects."""
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(map(_contains_nul, value.values()))
        case list():
            return any(map(_contains_nul, value))
    return False


def not_found(name: str) -> HttpProblem:
    """Return the 404 problem, the same for a missing object and for one of a portal that the actor may not see."""
    return HttpProblem(404, "not_found", f"There is no such {name}.")
