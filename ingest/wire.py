"""The connections that admission holds. Rule: one time-out around a whole exchange, and nothing else on its way.

Taking a connection out of redis-py's pool, with its checks and a timer for each half of an exchange, costs more than
admitting a delivery does.
"""

import asyncio
from collections.abc import Sequence

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as Disconnected

Words = Sequence[bytes | str | int]


class Wire:
    """Exchanges commands with Redis over connections that stay open."""

    def __init__(self, pool: ConnectionPool, *, timeout_s: float) -> None:
        """Take connections from `pool`, which stays the caller's; an exchange may take `timeout_s` seconds."""
        self._pool = pool
        self._timeout_s = timeout_s
        self._idle: list[AbstractConnection] = []

    async def ask(self, *commands: Words) -> list[object]:
        """Return the answers to `commands`, which are sent over one connection, one after the other.

        A connection that was held, and turns out to be broken, is replaced once: the commands may then be sent twice.

        Raises:
            RedisError, OSError, TimeoutError: Redis refused, is away, or is too slow.
        """
        async with asyncio.timeout(self._timeout_s):
            if self._idle:
                try:
                    return await self._exchange(self._idle.pop(), commands)
                except (Disconnected, OSError):
                    pass
            connection = await self._pool.get_connection()
            connection.socket_timeout = None  # ours is around it
            return await self._exchange(connection, commands)

    async def close(self) -> None:
        """Give every connection back to the pool."""
        while self._idle:
            await self._pool.release(self._idle.pop())

    async def _exchange(self, connection: AbstractConnection, commands: Sequence[Words]) -> list[object]:
        try:
            answers = []
            for words in commands:
                await connection.send_command(*words, check_health=False)
                answers.append(await connection.read_response())
        except BaseException:  # what is left of the exchange would be taken for the next one's answer
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
            raise
        self._idle.append(connection)
        return answers
