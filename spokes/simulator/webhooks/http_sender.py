"""Carries one signed request to the target and notes what came back. Rule: one attempt, no redirects, no opinions.

Without an answer the attempt says why: `timeout`, or `connection` for everything that kept HubSpot from being heard.
"""

from typing import Final

import aiohttp
from yarl import URL

from spokes.simulator.clock import Clock
from spokes.simulator.config import Target
from spokes.simulator.webhooks.delivery_log import Attempt
from spokes.simulator.webhooks.signing import SignedRequest

_HUBSPOT_ADDRESS: Final = "54.174.59.100"  # what a proxy would report; HubSpot publishes no fixed list


class HttpSender:
    """A client that keeps its connections; `timeout_s` bounds a whole request."""

    def __init__(self, clock: Clock, *, timeout_s: float) -> None:
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Be ready to connect."""
        connector = aiohttp.TCPConnector(limit=0)  # the sender bounds what is in flight
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, signed: SignedRequest, target: Target, attempt: Attempt) -> None:
        """Make the request and write its outcome into `attempt`.

        Raises:
            RuntimeError: it is not open.
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


def connection_target(target: Target) -> tuple[URL, dict[str, str]]:
    """Where to connect, and the headers a proxy in between would add."""
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
