"""A HubSpot whose responses a test scripts, over real HTTP; it records the requests and has no state of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson
from aiohttp import web

Respond = Callable[["RecordedRequest"], web.StreamResponse | Awaitable[web.StreamResponse]]


class RecordedRequest(NamedTuple):
    """One received request."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    raw: web.Request

    @property
    def ids(self) -> list[str]:
        """The ids of a batch's inputs, or the one id in the path."""
        return [item["id"] for item in self.body["inputs"]] if self.body else [self.path.rpartition("/")[2]]


class ScriptedHubSpot:
    """Serves on a free port while its context is entered."""

    def __init__(self, respond: Respond, *, portal_id: int | None = None) -> None:
        """Respond by `respond`; with `portal_id`, the token's portal is answered without it, and not recorded."""
        self.respond = respond
        self.portal_id = portal_id
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
        return [f"{request.method} {request.path}" for request in self.requests]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self.portal_id is not None and request.path.endswith("/access-token-info"):
            return json_response({"hubId": self.portal_id})
        raw = await request.read()
        body = orjson.loads(raw) if raw else None
        headers = {name.lower(): value for name, value in request.headers.items()}
        recorded = RecordedRequest(request.method, request.path, dict(request.query), body, headers, request)
        self.requests.append(recorded)
        response = self.respond(recorded)
        return await response if asyncio.iscoroutine(response) else response  # type: ignore[return-value]


def json_response(data: object, status: int = 200, **headers: str) -> web.Response:
    """Return a response in HubSpot's form."""
    dashed = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json", headers=dashed)


def batch_response(request: RecordedRequest, *missing: str, **properties: str) -> web.Response:
    """Return a batch response: a result with `properties` for every input except those `missing`."""
    results = [
        {"id": object_id, "properties": {"hs_object_id": object_id, **properties}}
        for object_id in request.ids
        if object_id not in missing
    ]
    return json_response({"status": "COMPLETE", "results": results})
