"""Close connections whose first request takes too long to arrive."""

import asyncio
import time
from collections.abc import Collection
from typing import Final, Generic, TypeVar

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from spokes.core.telemetry.metrics import REQUESTS

_CHECK_EVERY_S: Final = 1.0

Connection = TypeVar("Connection")


class SlowConnections(Generic[Connection]):
    """Finds connections that have been open too long without a request.

    aiohttp limits how long a connection may idle (minutes), but not how long a request head may take to arrive: a
    stranger who sends a byte a second would hold a socket all that time, and thousands of them with little effort.
    """

    def __init__(self, limit_s: float) -> None:
        """Allow `limit_s` seconds until a connection's first request has arrived."""
        self._limit_s = limit_s
        self._with_request: set[Connection] = set()
        self._first_seen: dict[Connection, float] = {}

    def saw_request(self, connection: Connection) -> None:
        """Record that a request has arrived on `connection`."""
        self._with_request.add(connection)

    def overdue(self, connections: Collection[Connection], now_s: float) -> list[Connection]:
        """Return the connections over the limit; the caller closes them. Closed connections are forgotten.

        Args:
            connections: all that are open now.
            now_s: seconds, of any clock that never goes back.
        """
        self._with_request.intersection_update(connections)
        self._first_seen = {
            connection: self._first_seen.get(connection, now_s)
            for connection in connections
            if connection not in self._with_request
        }
        return [connection for connection, since in self._first_seen.items() if now_s - since >= self._limit_s]


async def close_slow_connections(slow_connections: SlowConnections[RequestHandler], server: web.Server) -> None:
    """Close connections whose first request takes too long, until cancelled."""
    while True:
        await asyncio.sleep(_CHECK_EVERY_S)
        for connection in slow_connections.overdue(server.connections, time.monotonic()):
            REQUESTS.labels("408", "no_request").inc()
            connection.force_close()
