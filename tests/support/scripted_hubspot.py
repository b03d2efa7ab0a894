"""A HubSpot that answers what a test tells it, over real HTTP. Rule: it keeps requests and knows nothing itself."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson
from aiohttp import web

Respond = Callable[["RecordedRequest"], web.StreamResponse | Awaitable[web.StreamResponse]]


class RecordedRequest(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    raw: web.Request

    @property
    def ids(self) -> list[str]:
        """The inputs of a batch, or the one object in the path."""
        return [given["id"] for given in self.body["inputs"]] if self.body else [self.path.rpartition("/")[2]]


class ScriptedHubSpot:
    """Serves on a port of its own while it is entered."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[RecordedRequest] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.requests]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = orjson.loads(raw) if raw else None
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = RecordedRequest(request.method, request.path, dict(request.query), body, headers, request)
        self.requests.append(asked)
        answer = self.respond(asked)
        return await answer if asyncio.iscoroutine(answer) else answer  # type: ignore[return-value]


def json_response(data: object, status: int = 200, **headers: str) -> web.Response:
    """An answer as HubSpot gives it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json", headers=named)


def batch_response(asked: RecordedRequest, *missing: str, **properties: str) -> web.Response:
    """A batch answer: every input with `properties` besides its id, but for those missing."""
    results = [
        {"id": object_id, "properties": {"hs_object_id": object_id, **properties}}
        for object_id in asked.ids
        if object_id not in missing
    ]
    return json_response({"status": "COMPLETE", "results": results})
