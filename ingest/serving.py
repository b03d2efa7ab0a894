"""One web process: serve until asked to end, then let what is in flight finish. Rule: an accepted request is answered.

aiohttp's own way to stop ignores what still arrives of a body once it has begun to stop, so it begins here only when no
request is left.
"""

import asyncio
import signal
from typing import Final

from aiohttp import web

from core.settings import Settings
from ingest.middlewares import IN_FLIGHT

_LOOK_EVERY_S: Final = 0.05


async def serve(app: web.Application, settings: Settings, *, graceful_s: float) -> None:
    """Serve `app` until SIGTERM or SIGINT; what is in flight then may take `graceful_s` seconds."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=1024)
        await site.start()
        await stop.wait()
        await site.stop()
        await _finished(app, graceful_s)
    finally:
        await runner.cleanup()


async def _finished(app: web.Application, seconds: float) -> None:
    """Wait until no request is in flight, but no longer than `seconds`."""
    app[IN_FLIGHT].ending = True
    try:
        async with asyncio.timeout(seconds):
            while app[IN_FLIGHT].count:  # noqa: ASYNC110 - every request would have to pay for an event
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        return
