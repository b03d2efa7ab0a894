"""The connection pool: connected connections first, and never a stall when the server takes no more clients.

redis-py's own pool returns a connection that the server refused to the top of its stack, so that every later call takes
it again while good ones lie below and keep the server full. Here a connection that is not connected leaves the pool.
"""

import asyncio
from collections import deque
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

_REOPEN_S: Final = 1.0  # after a refusal, before the next attempt to open a connection


class RedisPool(ConnectionPool):
    """A pool of at most `max_connections`; a call waits up to `timeout` seconds for one of them."""

    def __init__(self, *, max_connections: int, timeout: float, **options: Any) -> None:
        super().__init__(max_connections=max_connections, **options)
        self._timeout_s = timeout
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._refused_until = 0.0  # in the loop's time

    async def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> AbstractConnection:
        """Return an idle connection, a new one, or the next that is released.

        Raises:
            RedisError: Redis is unreachable, or there was no connection in time.
        """
        del command_name, keys, options  # redis-py's signature
        if connection := await self._take_idle():  # without the cost of a timer
            return connection
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    if connection := await self._take_idle():
                        return connection
                    if self._may_open():
                        try:
                            return await self._open()
                        except RedisError as error:
                            if not is_refusal(error) or not self._holds_any():
                                raise
                    else:
                        await self._wait_for_release()
        except TimeoutError:
            raise Disconnected("no connection is free") from None

    async def take_now(self) -> AbstractConnection:
        """Return an idle or a new connection; do not wait for others.

        Raises:
            RedisError: Redis is unreachable or takes no more clients, or all connections are in use.
        """
        if connection := await self._take_idle():
            return connection
        if not self._may_open():
            raise Disconnected("no connection is free")
        return await self._open()

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back, unless it is closed; wake a waiting call in either case."""
        self._in_use_connections.discard(connection)
        if connection.is_connected:
            self._available_connections.append(connection)
        self._wake_next()

    async def close_idle(self) -> None:
        """Close every idle connection: after a failover they lead to a server that is no longer the primary."""
        while self._available_connections:
            await self._available_connections.pop().disconnect(nowait=True)

    async def _take_idle(self) -> AbstractConnection | None:
        """Return an idle connection that can be used, if there is one; close the others."""
        while self._available_connections:
            connection = self._available_connections.pop()
            self._in_use_connections.add(connection)
            try:
                if connection.is_connected and not await connection.can_read_destructive():  # type: ignore[no-untyped-call]  # redis-py has no annotation
                    return connection
            except (RedisError, OSError):
                pass  # closed by the server
            except BaseException:
                await self._discard(connection)
                raise
            await self._discard(connection)
        return None

    def _holds_any(self) -> bool:
        return bool(self._in_use_connections or self._available_connections)

    def _may_open(self) -> bool:
        """Return whether to open a connection: there is room, and Redis has not just refused one."""
        if len(self._in_use_connections) >= self.max_connections:
            return False
        return not self._holds_any() or asyncio.get_running_loop().time() >= self._refused_until

    async def _open(self) -> AbstractConnection:
        connection: AbstractConnection = self.connection_class(**self.connection_kwargs)
        self._in_use_connections.add(connection)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # as above
        except BaseException as error:
            if isinstance(error, RedisError) and is_refusal(error):
                self._refused_until = asyncio.get_running_loop().time() + _REOPEN_S
            await self._discard(connection)
            raise
        return connection

    async def _discard(self, connection: AbstractConnection) -> None:
        await connection.disconnect(nowait=True)
        await self.release(connection)

    async def _wait_for_release(self) -> None:
        released = asyncio.get_running_loop().create_future()
        self._waiting.append(released)
        try:
            await asyncio.wait({released}, timeout=_REOPEN_S)
        except asyncio.CancelledError:
            if released.done():
                self._wake_next()  # this call does not use the released connection
            raise
        finally:
            if not released.done():
                self._waiting.remove(released)

    def _wake_next(self) -> None:
        while self._waiting:
            if not (released := self._waiting.popleft()).done():
                released.set_result(None)
                return


def is_refusal(error: RedisError) -> bool:
    """Return whether Redis was reached and took no further client: it answers with an error, or only closes."""
    return type(error) is Disconnected and "connecting to" not in str(error)  # redis-py's text if it was not reached
