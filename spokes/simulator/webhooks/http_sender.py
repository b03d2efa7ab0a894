"""Sends one signed request to the target and records the response: one attempt, without following redirects.

Without a response the attempt's failure is `timeout`, or `connection` for every connection error.
"""

import asyncio
import contextlib
from typing import Final

import aiohttp
from yarl import URL

from spokes.simulator.clock import Clock
from spokes.simulator.config import Target
from spokes.simulator.webhooks.delivery_log import Attempt
from spokes.simulator.webhooks.signing import SignedRequest

_HUBSPOT_ADDRESS: Final = "54.174.59.100"  # the client address a proxy would report; HubSpot publishes no fixed list
_CONNECT_TIMEOUT_S: Final = 5.0
_CONNECT_POLL_S: Final = 0.1


class HttpSender:
    """An HTTP client with keep-alive connections; `timeout_s` bounds a whole request."""

    def __init__(self, clock: Clock, *, timeout_s: float) -> None:
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the client session."""
        connector = aiohttp.TCPConnector(limit=0)  # the sender bounds the requests in flight
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)

    async def close(self) -> None:
        """Close the client session."""
        if self._session is not None:
            await self._session.close()

    async def send(self, signed: SignedRequest, target: Target, attempt: Attempt) -> None:
        """Send the request and store its outcome in `attempt`.

        Raises:
            RuntimeError: the session is not open.
        """
        if self._session is None:
            raise RuntimeError("the simulator is not running")
        started_s = self._clock.monotonic_s()
        url, headers = connection_target(target)
        try:
            async with self._session.post(
                url, data=signed.body, headers={**signed.headers, **headers}, allow_redirects=False
            ) as response:
                attempt.answer = await response.read()
                attempt.status = response.status
        except TimeoutError:
            attempt.failure = "timeout"
        except (aiohttp.ClientError, OSError):
            attempt.failure = "connection"
        attempt.latency_ms = (self._clock.monotonic_s() - started_s) * 1000


async def wait_until_listening(target: Target) -> None:
    """Wait until the target's address accepts connections."""
    url, _ = connection_target(target)
    while True:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(url.host, url.port)
            writer.close()
            return
        await asyncio.sleep(_CONNECT_POLL_S)


def connection_target(target: Target) -> tuple[URL, dict[str, str]]:
    """Return the URL to connect to, and the headers a proxy in between would add."""
    public = URL(target.public_url, encoded=True)
    if target.connect_url is None:
        return public, {}
    port = "" if public.is_default_port() else f":{public.port}"
    headers = {
        "Host": f"{public.raw_host}{port}",
        "X-Forwarded-Proto": public.scheme,
        "X-Forwarded-For": _HUBSPOT_ADDRESS,
        "X-Forwarded-Port": str(public.port),
    }
    return URL(target.connect_url, encoded=True), headers
