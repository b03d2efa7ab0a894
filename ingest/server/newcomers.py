"""Connections from which no request has come yet. Rule: pure; whoever asks closes those that took too long.

aiohttp limits how long a connection may idle, which is minutes, but not how long the head of a request may trickle in:
a stranger who sends a byte a second would hold a socket all that time, thousands of them with little effort.
"""

from collections.abc import Collection
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Newcomers(Generic[Connection]):
    """Tells which connections have been open for too long without a request."""

    def __init__(self, limit_s: float) -> None:
        """Let a connection's first request take `limit_s` seconds to come."""
        self._limit_s = limit_s
        self._heard: set[Connection] = set()
        self._since: dict[Connection, float] = {}

    def heard(self, connection: Connection) -> None:
        """Take note that a request has come from `connection`."""
        self._heard.add(connection)

    def late(self, connections: Collection[Connection], now_s: float) -> list[Connection]:
        """Return those of the open `connections` that took too long; those that are closed are forgotten.

        Args:
            connections: all that are open now.
            now_s: seconds, of any clock that never goes back.
        """
        self._heard.intersection_update(connections)
        self._since = {one: self._since.get(one, now_s) for one in connections if one not in self._heard}
        return [one for one, since in self._since.items() if now_s - since >= self._limit_s]
