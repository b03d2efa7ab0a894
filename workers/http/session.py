"""One aiohttp session for the HTTP calls of all handlers of a worker process: connections, time-outs, redirects.

It keeps no cookies and uses no proxy of the environment: no call depends on another one. Bodies are never logged.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Container, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final, Protocol, TypeAlias

import aiohttp
from multidict import CIMultiDict
from redis.asyncio import Redis

from spokes.core.clock import now_s
from spokes.core.telemetry.metrics import HTTP_CALL_SECONDS, HTTP_CALLS
from spokes.core.version import VERSION
from spokes.crm.transport.errors.error_mapping import parse_retry_after
from spokes.http.calls import HttpResponse
from spokes.http.errors import HttpError, HttpNotSent, HttpRefusal, HttpUnavailable, error_for_status
from spokes.http.hosts import HostLimits, is_private
from spokes.routing import Router
from workers.http.host_rates import HostRates
from workers.http.requests import HttpRequest, redirected

_MAX_REDIRECTS: Final = 5
_MAX_BODY_BYTES: Final = 10 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_USER_AGENT: Final = f"spokes-hubspot/{VERSION}"
_CONNECTION_FAILURES: Final = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError, OSError)
_CERTIFICATE_FAILURES: Final = (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)
Sender: TypeAlias = Callable[[HttpRequest, float], Awaitable[HttpResponse]]


class RequestObserver(Protocol):
    """Sees every request of one call of a handler, also those that follow redirects."""

    def before_send(self) -> None:
        """Allow a request to be sent.

        Raises:
            LeaseLost: another worker may be working on the event's object.
        """

    def ended(self, request: HttpRequest, status: int, error: HttpError | None, seconds: float) -> None:
        """Take note of the end of a request; `status` is 0 without an answer."""


class HttpSession:
    """The HTTP calls of one worker process.

    `send` sends one request within so many seconds; tests replace it.
    """

    def __init__(self, redis: Redis, router: Router) -> None:
        self.send: Sender = self._send_over_network
        self.rates = HostRates(redis)
        self._router = router
        self._hosts: dict[str, tuple[HostLimits, asyncio.Semaphore]] = {}
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self, request: HttpRequest, declared: Mapping[str, object], accept: Container[int], observer: RequestObserver
    ) -> tuple[HttpResponse, HttpError | None]:
        """Send a request, follow redirects to declared hosts, and return the answer and what it means for the event.

        A redirect whose status is in `accept` is not followed.

        Raises:
            HttpError: there is no answer, the declared rate allows no call now, or a redirect leads elsewhere.
        """
        for redirects in range(_MAX_REDIRECTS + 1):
            response, error = await self._call_once(request, observer)
            target = None if response.status in accept else redirected(request, response, declared)
            if target is None:
                return response, error
            leads_inside = target.host != request.host and await self._leads_inside(request, target)
            if leads_inside or redirects == _MAX_REDIRECTS:
                raise HttpRefusal(request.host, request.method, status=response.status, code="redirect")
            request = target
        raise AssertionError("the last round returns or raises")

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def _call_once(
        self, request: HttpRequest, observer: RequestObserver
    ) -> tuple[HttpResponse, HttpError | None]:
        host = request.host
        if host not in self._hosts:
            limits = self._router.hosts[host]
            self._hosts[host] = limits, asyncio.Semaphore(limits.connections)
        limits, room = self._hosts[host]
        async with room:
            if limits.rate is not None:
                await self.rates.wait(host, request.method, limits.rate)
            observer.before_send()
            started = time.perf_counter()
            error: HttpError | None = None
            status = 0
            try:
                response = await self.send(request, limits.timeout_s)
                status = response.status
                delay_s = parse_retry_after(response.headers.get("Retry-After"), datetime.fromtimestamp(now_s(), UTC))
                error = error_for_status(host, request.method, status, delay_s)
                return response, error
            except HttpError as failure:
                error, status = failure, failure.status
                raise
            finally:
                seconds = time.perf_counter() - started
                outcome = f"{status // 100}xx" if status else error.reason if error else "cancelled"
                HTTP_CALLS.labels(host, outcome).inc()
                HTTP_CALL_SECONDS.labels(host).observe(seconds)
                observer.ended(request, status, error, seconds)

    async def _send_over_network(self, request: HttpRequest, timeout_s: float) -> HttpResponse:
        host, method = request.host, request.method
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._open_session().request(
                    method,
                    request.url,
                    headers=request.headers,
                    data=request.body or None,
                    allow_redirects=False,
                ) as response,
            ):
                body = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > _MAX_BODY_BYTES:
                        response.close()
                        raise HttpRefusal(host, method, status=response.status, code="response_too_large")
                return HttpResponse(response.status, CIMultiDict(response.headers), bytes(body))
        except _CERTIFICATE_FAILURES:
            raise HttpRefusal(host, method, code="certificate") from None
        except TimeoutError:
            raise HttpUnavailable(host, method, code="timeout") from None
        except _CONNECTION_FAILURES:
            raise HttpUnavailable(host, method, code="connection") from None
        except ValueError:
            raise HttpNotSent(host, method, "the URL or a header has characters that HTTP cannot send.") from None
        except aiohttp.ClientError:  # an answer that is no HTTP
            raise HttpUnavailable(host, method, code="malformed") from None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the rooms of the hosts limit the connections
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"User-Agent": _USER_AGENT},
            )
            self._stack.push_async_callback(self._session.close)
        return self._session

    async def _leads_inside(self, request: HttpRequest, target: HttpRequest) -> bool:
        """Return whether a redirect leads from a public address to a private one, which no outsider may choose."""
        if not await _has_private_address(target):
            return False
        return not await _has_private_address(request)


async def _has_private_address(request: HttpRequest) -> bool:
    """Return whether a host has a private address; True if its name is unknown."""
    try:
        addresses = await asyncio.get_running_loop().getaddrinfo(
            request.url.raw_host, request.url.port, type=socket.SOCK_STREAM
        )
    except OSError:
        return True
    return any(is_private(str(address[4][0])) for address in addresses)
