"""A caller of the CRM API and a target for deliveries, for tests of the simulator. They record, and assert nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple, Self

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from spokes.simulator.config import PortalConfig


class Reply(NamedTuple):
    """The response to a call. `json` is None if the body is empty or not JSON."""

    status: int
    json: Any  # a test knows the shape of the response
    headers: CIMultiDictProxy[str]
    body: bytes


class Caller:
    """Calls the API at `url` with a token; "" sends none."""

    def __init__(self, url: str, token: str = PortalConfig().token) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, method: str, path: str, body: object = None, /, **query: str) -> Reply:
        """Make a call; `body` is sent as JSON, bytes unchanged."""
        if self._session is None:
            raise RuntimeError("use it as a context")
        data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        async with self._session.request(method, self._url + path, data=data, params=query) as response:
            content = await response.read()
            return Reply(response.status, _parsed(content), response.headers, content)


@dataclass(slots=True)
class ReceivedRequest:
    """One request that the target received."""

    path: str
    headers: CIMultiDict[str]
    body: bytes
    open_requests: int  # requests open at the same time, this one included

    @property
    def events(self) -> list[Any]:
        """The elements of its body."""
        elements = _parsed(self.body)
        return elements if isinstance(elements, list) else [elements]


@dataclass(slots=True)
class TargetProbe:
    """Listens on `url`, records every request, and responds with the status that `answer` returns, by default 202."""

    answer: Callable[[ReceivedRequest], Awaitable[int]] | None = None
    requests: list[ReceivedRequest] = field(default_factory=list)
    url: str = ""
    _open: int = 0
    _runner: web.AppRunner | None = None

    @property
    def events(self) -> list[Any]:
        """Every event of every request."""
        return [event for request in self.requests for event in request.events]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{tail:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        self._open += 1
        try:
            received = ReceivedRequest(request.raw_path, request.headers.copy(), await request.read(), self._open)
            self.requests.append(received)
            status = 202 if self.answer is None else await self.answer(received)
            redirects = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
            return web.Response(status=status, headers={"Location": "/elsewhere"} if redirects else None)
        finally:
            self._open -= 1


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
