"""Malformed requests to every route of console and API through a real web process: `python bench/fuzz_console.py`.

A third is sent without an account, a third with a session, a third with a token. It checks that every request has a
response, that none is a 5xx except 503, that few are 503, and that neither web process nor console logs an error.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

import uvloop
from redis import Redis

from bench.fuzz import log_faults
from bench.fuzzing.console_cases import console_request
from bench.lib.servers import ALL_CORES, ROOT, redis_url, running_valkey, running_web
from bench.lib.tables import table
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE, Sessions
from spokes.console.app import create_app
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings

_KEY: Final = "a-key-of-at-least-thirty-two-characters"
_ENVIRON: Final = {
    "CONSOLE_KEY": _KEY, "CONSOLE_RATE_LIMIT": "1000000", "LOG_FORMAT": "json", "HUBSPOT_API_URL": "http://127.0.0.1:9",
}  # fmt: skip
_PARALLEL: Final = 8
_TIMEOUT_S: Final = 20.0
_MAX_UNAVAILABLE_SHARE: Final = 0.05
_SERVER_ERROR, _UNAVAILABLE = 500, 503
Credentials = Sequence[tuple[bytes, bytes]]


def routes() -> list[tuple[str, str]]:
    """Return method and path of every route but the endless stream and the logout, which ends the session."""
    found = [
        (route.method, route.resource.canonical)
        for route in create_app(Settings()).router.routes()
        if route.resource is not None
    ]
    return [(method, path) for method, path in found if not path.endswith(("/live", "/logout"))]


async def credentials(url: str) -> list[Credentials]:
    """Start a session and mint a token; return the headers of nobody, of the session and of the token."""
    settings = Settings.from_env({"REDIS_URL": url, "CONSOLE_KEY": _KEY})
    token = ApiTokens.from_settings(settings).mint("robot", list(Role)).token
    async with redis_client(settings) as redis:
        sessions = Sessions.from_settings(redis, settings)
        cookie = await sessions.start("ada", Role, None)
    session = [(b"Cookie", f"{COOKIE}={cookie}".encode()), (b"X-CSRF-Token", sessions.csrf_token(cookie).encode())]
    return [(), session, [(b"Authorization", f"Bearer {token}".encode())]]


async def exchange(port: int, request: bytes) -> int:
    """Send a request; return the status of the response, 0 without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            writer.write(request)
            return int((await reader.readline())[9:12] or 0)
    except (OSError, TimeoutError):
        return 0
    finally:
        writer.transport.abort()


async def run(port: int, seed: int, numbers: Iterable[int], accounts: Sequence[Credentials]) -> dict[int, int]:
    """Send the requests of these numbers; return the status of each."""
    paths, statuses, left = routes(), dict[int, int](), iter(numbers)

    async def send_next() -> None:
        for number in left:
            request = console_request(seed, number, paths, accounts[number % len(accounts)])
            statuses[number] = await exchange(port, request)

    await asyncio.gather(*(send_next() for _ in range(_PARALLEL)))
    return statuses


def faults(statuses: dict[int, int], log: Path) -> list[str]:
    """Return what is wrong with the responses and the log."""
    found = [
        f"request {number}: {status or 'no response'}"
        for number, status in statuses.items()
        if status == 0 or (status >= _SERVER_ERROR and status != _UNAVAILABLE)
    ]
    unavailable = sum(status == _UNAVAILABLE for status in statuses.values())
    if unavailable > max(3, len(statuses) * _MAX_UNAVAILABLE_SHARE):
        found.append(f"{unavailable} of {len(statuses)} requests were answered 503")
    return found + [f"log line {line.strip()}" for line in log_faults(log.read_bytes().splitlines())]


def main() -> int:
    """Send the requests, print the statuses, and return 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of requests to send")
    arguments = parser.parse_args()
    numbers = arguments.only or range(arguments.requests)
    print(f"seed {arguments.seed}, {len(numbers):,} requests to console and API", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spokes-fuzz-")))
        redis = stack.enter_context(running_valkey(folder))
        migrate = [sys.executable, "-m", "spokes", "migrate"]
        subprocess.run(migrate, cwd=ROOT, env={**os.environ, "DATA_DIR": str(folder)}, check=True, capture_output=True)
        port, web = stack.enter_context(running_web(redis, folder, cores=ALL_CORES, **_ENVIRON))
        statuses = uvloop.run(_send(redis, port, arguments.seed, numbers))
        found = faults(statuses, folder / "web.log")
        if web.poll() is not None:
            found.append(f"the web process ended with {web.returncode}")
    counts = sorted(Counter(statuses.values()).items())
    print(table(["status", "responses"], [[str(status), f"{count:,}"] for status, count in counts]))
    for fault in found[:10]:
        print(f"FAULT {fault}")
    return 1 if found else 0


async def _send(redis: Redis, port: int, seed: int, numbers: Iterable[int]) -> dict[int, int]:
    await _await_console(port)
    return await run(port, seed, numbers, await credentials(redis_url(redis)))


async def _await_console(port: int) -> None:
    async with asyncio.timeout(_TIMEOUT_S):
        while await exchange(port, b"GET /console/login HTTP/1.1\r\nHost: localhost\r\n\r\n") != 200:  # noqa: ASYNC110 - another process starts
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
