"""Connections to HubSpot: a call can be cut from another thread, interim responses are skipped, responses are bounded.

urllib3's time-out holds for each read of the socket alone. A server that sends its response byte by byte would hold a
thread for as long as it likes, and there are few threads. Python's `http.client` takes an interim response such as 103
for the response; the real one would then be the response to the next call on the connection.
"""

import http.client
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from spokes.core.errors import CRMUnavailable

_CHUNK_BYTES: Final = 1 << 16
_MAX_RESPONSE_BYTES: Final = 64 << 20  # a batch of a hundred notes of the greatest length is a tenth of it
_MAX_ERROR_BYTES: Final = 1 << 20  # of a response that is not 2xx; errors of a hundred inputs are a tenth of it
_calls = threading.local()  # `call`: the call that this thread makes


class ConnectionCut(OSError):
    """The call took too long: its connection is of no use any more."""


class BoundedCall:
    """One call in its thread."""

    def __init__(self, timeout_s: float) -> None:
        """Make a call that may take `timeout_s` seconds, from its begin to the last byte."""
        self._timeout_s = timeout_s
        self.deadline = 0.0
        self.is_cut = False
        self._connection: _Connection | None = None

    def begin(self) -> None:
        """Begin the call in this thread, which uses its connections for the call from now on."""
        self.deadline = time.monotonic() + self._timeout_s
        _calls.call = self

    def use(self, connection: "_Connection") -> None:
        """Use a connection.

        Raises:
            ConnectionCut: the call was cut before.
        """
        connection.call, self._connection = self, connection
        if self.is_cut:
            raise ConnectionCut

    def cut(self) -> None:
        """End the call: a thread that waits for its connection gets an error at once."""
        self.is_cut = True
        connection = self._connection
        if connection is not None and connection.call is self and connection.sock is not None:
            with suppress(OSError):
                # Not the method of a TLS socket: it would also take away the layer from which the thread reads.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


class _FinalResponse(http.client.HTTPResponse):
    """A response that skips every interim one, as RFC 9110 requires; Python skips 100 only."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]  # not in typeshed
        is_interim = HTTPStatus.SWITCHING_PROTOCOLS < status < HTTPStatus.OK
        return version, HTTPStatus.CONTINUE if is_interim else status, reason


class _Connection(HTTPConnection):
    """A connection that knows the call which uses it."""

    response_class = _FinalResponse
    call: BoundedCall | None = None

    def connect(self) -> None:
        self._use()
        super().connect()

    def request(self, *args: Any, **options: Any) -> None:
        self._use()
        super().request(*args, **options)

    def _use(self) -> None:
        call: BoundedCall | None = getattr(_calls, "call", None)
        if call is not None:
            call.use(self)


class _TLSConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class Response:
    """A response whose body is read within the call's time and up to a size.

    hubspot-api-client reads `data` and `getheaders` of a response that is not 2xx.
    """

    def __init__(self, raw: urllib3.BaseHTTPResponse, call: BoundedCall) -> None:
        self._raw = raw
        self._call = call
        self.status = raw.status
        self.reason = raw.reason
        self.headers: Mapping[str, str] = raw.headers

    def getheaders(self) -> Mapping[str, str]:
        """Return the headers, as hubspot-api-client asks for those of an error."""
        return self.headers

    @property
    def data(self) -> bytes:
        """The body of an error, without what is beyond its greatest size."""
        return self._read(_MAX_ERROR_BYTES)

    def read(self) -> bytes:
        """Return the body.

        Raises:
            CRMUnavailable: it takes too long, or is too large.
        """
        body = self._read(_MAX_RESPONSE_BYTES + 1)
        if len(body) > _MAX_RESPONSE_BYTES:
            raise CRMUnavailable
        return body

    def _read(self, limit: int) -> bytes:
        """Return the first `limit` bytes of the body; the connection is closed unless they are all of it.

        Raises:
            CRMUnavailable: the body takes too long.
        """
        chunks: list[bytes] = []
        size, is_whole = 0, False
        try:
            while size < limit and time.monotonic() < self._call.deadline:
                if not (chunk := self._raw.read1(_CHUNK_BYTES)):
                    is_whole = True
                    break
                chunks.append(chunk)
                size += len(chunk)
        finally:
            if is_whole:
                self._raw.release_conn()
            else:
                self._raw.close()
        if not is_whole and size < limit:
            raise CRMUnavailable
        return b"".join(chunks)[:limit]


class BoundedPool:
    """urllib3's pools of one client, with the connections and responses of this module."""

    def __init__(self, pools: urllib3.PoolManager) -> None:
        """Use `pools`, which has opened no connection yet."""
        pools.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        self._pools = pools

    def request(self, method: str, url: str, **options: Any) -> Response:
        """Send a request for the call of this thread; see urllib3's method."""
        return Response(self._pools.request(method, url, **options), _calls.call)

    def clear(self) -> None:
        """Close the connections."""
        self._pools.clear()
