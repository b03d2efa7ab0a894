"""`serve`: run the console's web process."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer
from aiohttp import web
from redis.exceptions import RedisError

from spokes.audit.entry_signature import sign_entries
from spokes.console.app import create_app
from spokes.console.operator_redis import operator_redis
from spokes.core.process.listening_port import check_address
from spokes.core.settings import Settings
from spokes.core.telemetry.metrics import CONSOLE_REQUESTS
from spokes.core.telemetry.protocol_errors import server_logger
from spokes.core.telemetry.setup import setup_telemetry

_SHUTDOWN_S: Final = 5.0


def serve(
    port: Annotated[int, typer.Option(help="Port to listen on; HOST sets the address.", min=0, max=65535)] = 8081,
    socket: Annotated[Path | None, typer.Option(help="Listen on this unix socket instead of a port.")] = None,
    with_parent: Annotated[
        bool, typer.Option(hidden=True, help="Exit when standard input closes, as it does when the parent ends.")
    ] = False,
) -> None:
    """Run the console (pages and API) on its own port.

    Usually not needed: `python -m ingest` runs the console itself when CONSOLE_KEY is set.

    Example: spokes serve --port 8081
    """
    settings = Settings.from_env(required=("CONSOLE_KEY",))
    setup_telemetry(settings, "console")
    if socket is None:
        check_address(settings.host, port, names="HOST and --port")
    sign_entries(settings)
    asyncio.run(_serve(settings, port, socket, with_parent))


async def _serve(settings: Settings, port: int, socket: Path | None, with_parent: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if with_parent:
        loop.add_reader(sys.stdin, lambda: stop.set() if not os.read(sys.stdin.fileno(), 1024) else None)
    if socket is None:  # else the web process has checked it
        with suppress(RedisError, OSError):  # the console starts without Redis, too
            async with operator_redis(settings):
                pass
    runner = web.AppRunner(
        create_app(settings, behind_web=socket is not None),
        access_log=None,
        auto_decompress=False,  # a few kB could become any number of MB; compressed bodies are refused
        logger=server_logger(CONSOLE_REQUESTS.labels("400", "not_http").inc),
        handle_signals=False,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        site: web.BaseSite = (
            web.TCPSite(runner, settings.host, port) if socket is None else web.UnixSite(runner, str(socket))
        )
        await site.start()
        await stop.wait()
    finally:
        await runner.cleanup()
