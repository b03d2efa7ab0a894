"""One route of the API as it is declared. Rule: what is not declared is neither read nor answered.

A declaration reads query and body, writes the answer, names who may call, and is what the OpenAPI document tells of.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from spokes.console.accounts.policy import AccessRule, requires
from spokes.console.queries.records import Page
from spokes.core.errors import HttpProblem

PREFIX: Final = "/api/v1"
_JSON: Final = "application/json"
_MAX_FAULTS: Final = 10  # told of at most


@dataclass(frozen=True)
class ApiRoute:
    """A route: `answer(request, given)` returns what `gives` describes.

    `given` is the query of a GET and the body of a POST, read as `takes`; None where nothing is taken. A `streams`
    handler makes the whole response by itself.
    """

    method: str
    path: str
    rule: AccessRule
    summary: str
    endpoint: Callable[[web.Request, Any], Awaitable[Any]]
    response_type: Any = None
    request_type: Any = None
    stream_types: tuple[str, ...] = field(default=(), kw_only=True)  # the media types of an answer that streams

    @cached_property
    def request_adapter(self) -> TypeAdapter[Any]:
        """What reads query or body."""
        return TypeAdapter(self.request_type)

    @cached_property
    def response_adapter(self) -> TypeAdapter[Any]:
        """What writes the answer."""
        return TypeAdapter(self.response_type)

    def to_route_def(self) -> web.RouteDef:
        """Return the route as the router takes it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            found = await self.endpoint(request, await self._parse_request(request))
            if isinstance(found, web.StreamResponse):
                return found
            answer = web.Response(body=self.response_adapter.dump_json(found), content_type=_JSON)
            if isinstance(found, Page) and found.next is not None:
                following = request.rel_url.update_query(after=found.next)
                answer.headers["Link"] = f'<{following}>; rel="next"'
            return answer

        return web.route(self.method, PREFIX + self.path, requires(self.rule)(handle), name=None)

    @staticmethod
    def _read_query(request: web.Request) -> object:
        sent = dict(request.query)
        if len(request.query) != len(sent):
            raise HttpProblem(422, "wrong_query", "A parameter is given twice.")
        return sent

    @staticmethod
    async def _read_body(request: web.Request) -> object:
        if request.content_type != _JSON:
            raise HttpProblem(415, "not_json", "Send the body as application/json.")
        try:
            return orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            raise HttpProblem(422, "not_json", "The body is no JSON.") from None

    async def _parse_request(self, request: web.Request) -> Any:
        """Read what was sent.

        Raises:
            Problem: 415 it is no JSON by its own word, 422 it is not what the route takes.
        """
        if self.request_type is None:
            return None
        sent = self._read_query(request) if self.method == "GET" else await self._read_body(request)
        if _contains_nul(sent):
            raise HttpProblem(422, "wrong_text", "A text holds the character NUL.")
        try:
            if self.method == "GET":
                return self.request_adapter.validate_python(sent)
            # In JSON a number is a number: `"portal_id": false` must not be taken for portal 0.
            return self.request_adapter.validate_json(await request.read(), strict=True)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_FAULTS]
            told = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
            raise HttpProblem(422, "wrong_query" if self.method == "GET" else "wrong_body", told) from None


def _contains_nul(value: object) -> bool:
    """Whether a text holds what no store of ours takes."""
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(map(_contains_nul, value.values()))
        case list():
            return any(map(_contains_nul, value))
    return False


def not_found(what: str) -> HttpProblem:
    """Return the answer for what is not there, or is another portal's: nobody learns which."""
    return HttpProblem(404, "not_found", f"There is no such {what}.")
