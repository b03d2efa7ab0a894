"""A system of one's own: an aiohttp server on the loopback interface, which tests script."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web

Answer = web.Response | Callable[[web.Request], web.Response]


class Received(NamedTuple):
    """One request as the system received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers.get("Idempotency-Key", "")


class OwnSystem:
    """Answers with the next of `answers`, and with an empty 200 when there are none; `requests` are those received."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Received] = []
        self.answers: list[Answer] = []

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.title(): value for name, value in request.headers.items()}
        self.requests.append(Received(request.method, request.path_qs, headers, await request.read()))
        answer = self.answers.pop(0) if self.answers else web.Response()
        return answer(request) if callable(answer) else answer


@asynccontextmanager
async def own_system() -> AsyncIterator[OwnSystem]:
    system = OwnSystem()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", system.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    system.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield system
    finally:
        await runner.cleanup()
