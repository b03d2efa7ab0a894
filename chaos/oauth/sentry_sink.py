"""A Sentry on the loopback interface: it keeps each envelope as text, in one file."""

from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web

_MAX_BODY_BYTES: Final = 16 * 1024 * 1024


class SentrySink:
    """Receives envelopes while it is entered; `count` is their number."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.count = 0
        self._runner: web.AppRunner | None = None

    @property
    def dsn(self) -> str:
        """The value for SENTRY_DSN."""
        assert self._runner is not None  # noqa: S101 - it is entered
        return f"http://chaos@127.0.0.1:{self._runner.addresses[0][1]}/1"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.add_routes([web.post("/api/1/envelope/", self._receive)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()  # aiohttp has decompressed it
        self.count += 1
        with self.file.open("ab") as file:
            file.write(body + b"\n")
        return web.json_response({})
