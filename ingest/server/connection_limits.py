"""How many connections may be open: in total and for one client. Beyond a limit the oldest one without proof is closed.

A connection has proof once a signed request or an operator's event stream came through it. Those are not
closed. A new connection is accepted at the cost of the one that has been open longest, idle ones first.
"""

import math
import resource
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from spokes.core.request_guard import client_network
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.metrics import REQUESTS

_CONSOLE_SHARE: Final = 8  # of the open files, one in eight is for a request that is passed on to the console
_MAX_CONNECTIONS: Final = 1_000  # each takes about 20 kB
_MAX_CLIENT_SHARE: Final = 4  # one client may hold a quarter
_MAX_CONSOLE_REQUESTS: Final = 100
_OWN_FILES: Final = 64  # Redis connections, the listening socket, the log, the console's pipe, ...
_MIN_CONNECTIONS: Final = 16
_DESIRED_FILES: Final = 4_096
_REPORT_EVERY_S: Final = 60.0

Connection = TypeVar("Connection")


def raise_file_limit() -> None:
    """Raise this process' limit on open files as far as it may, so that a burst of connections stays below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESIRED_FILES:
        desired = _DESIRED_FILES if hard == resource.RLIM_INFINITY else min(hard, _DESIRED_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (desired, hard))


def open_file_limit() -> int:
    """Return how many files this process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def max_console_requests(files: int) -> int:
    """Return how many requests may be passed on to the console at a time; each needs a second connection."""
    return max(4, min(_MAX_CONSOLE_REQUESTS, files // _CONSOLE_SHARE))


def max_connections(files: int) -> int:
    """Return how many connections may be open in a process that may open `files`; the rest is a reserve."""
    return max(_MIN_CONNECTIONS, min(_MAX_CONNECTIONS, files - max_console_requests(files) - _OWN_FILES))


class ConnectionLimits(Generic[Connection]):
    """The open connections of one process, and which of them to close."""

    def __init__(self, max_total: int, *, counts_clients: bool) -> None:
        """Allow `max_total`; `counts_clients` is False behind a proxy, whose address all connections have."""
        self._max_total = max_total
        self._max_of_client = max(1, max_total // _MAX_CLIENT_SHARE) if counts_clients else max_total
        self._clients: dict[Connection, str] = {}
        self._unproven: dict[str, dict[Connection, None]] = {}  # by client, oldest first
        self._closed_count = 0
        self.busy: set[Connection] = set()  # a request of theirs is being answered
        self.proven: set[Connection] = set()

    def open(self, connection: Connection, address: str) -> Connection | None:
        """Record a new connection; return the connection to close, which may be the new one, or None."""
        client = client_network(address)
        self._clients[connection] = client
        self._unproven.setdefault(client, {})[connection] = None
        if len(self._unproven[client]) > self._max_of_client:
            victim = self._oldest(client)
        elif len(self._clients) > self._max_total:
            victim = self._oldest(max(self._unproven, key=lambda name: len(self._unproven[name])))
        else:
            return None
        self._closed_count += 1
        self.close(victim)
        return victim

    def close(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self.busy.discard(connection)
        self.proven.discard(connection)
        self._forget_unproven(connection)
        self._clients.pop(connection, None)

    def prove(self, connection: Connection) -> None:
        """Record that a connection serves HubSpot or an operator: it is not closed in favour of others."""
        if connection in self._clients:
            self.proven.add(connection)
            self._forget_unproven(connection)

    def drain_closed_count(self) -> int:
        """Return how many connections were closed since the last call."""
        count, self._closed_count = self._closed_count, 0
        return count

    def _oldest(self, client: str) -> Connection:
        """Return the client's idle connection that has been open longest; a busy one if none is idle."""
        connections = self._unproven[client]
        return next((connection for connection in connections if connection not in self.busy), next(iter(connections)))

    def _forget_unproven(self, connection: Connection) -> None:
        client = self._clients.get(connection)
        connections = self._unproven.get(client) if client is not None else None
        if client is None or connections is None:
            return
        connections.pop(connection, None)
        if not connections:
            del self._unproven[client]


class ConnectionAlert:
    """Reports closed connections: a metric at once, an alert once a minute."""

    def __init__(self, limits: ConnectionLimits[Any], report: Callable[..., Awaitable[None]]) -> None:
        """`report` is `AlertEpisodes.report_once`."""
        self._limits = limits
        self._report = report
        self._unreported = 0
        self._reported_at = -math.inf

    async def flush(self) -> None:
        """Report what was closed since the last call.

        Raises:
            RedisError, OSError: Redis does not answer; the log has the report.
        """
        if count := self._limits.drain_closed_count():
            REQUESTS.labels("503", "too_many_connections").inc(count)
            self._unreported += count
        if self._unreported and time.monotonic() - self._reported_at >= _REPORT_EVERY_S:
            self._reported_at, unreported, self._unreported = time.monotonic(), self._unreported, 0
            await self._report(Alert.TOO_MANY_CONNECTIONS, level="warning", closed=unreported)
