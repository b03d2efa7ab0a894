"""Raw RESP connections for admission: one exchange at a time, with one deadline for the whole of it.

Taking a connection out of redis-py's pool, with its checks, its streams and a timer for each half of an exchange, costs
more than admitting a delivery. So redis-py opens the connection, and this module then speaks RESP on it directly.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import hiredis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as TimedOut

from spokes.core.redis.connections import detach_socket
from spokes.core.redis.pool import RedisPool

CommandArgs = Sequence[bytes | str | int]
_INCOMPLETE: Final = object()


class RedisLines:
    """Exchanges commands with Redis over connections that stay open."""

    def __init__(self, pool: RedisPool, *, timeout_s: float) -> None:
        """Take connections from `pool`, which the caller closes; an exchange may take `timeout_s` seconds."""
        self._pool = pool
        self._timeout_s = timeout_s
        self._idle: list[_Line] = []
        self._busy_count = 0  # lines in an exchange or being opened
        self._waiting: deque[asyncio.Future[_Line]] = deque()

    async def call(self, *commands: CommandArgs) -> list[object]:
        """Send `commands` over one connection at once, and return their replies.

        If an idle connection turns out to be broken, it is replaced once: the commands may then be sent twice.

        Raises:
            RedisError, OSError, TimeoutError: Redis refused, is unreachable, or is too slow.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        if self._idle:
            try:
                return await self._exchange(self._idle.pop(), commands, deadline)
            except (Disconnected, OSError):
                pass
        async with asyncio.timeout_at(deadline):
            line = await self._open()
        return await self._exchange(line, commands, deadline)

    async def close(self) -> None:
        """Return every connection to the pool."""
        while self._idle:
            await self._release(self._idle.pop())

    async def _open(self) -> "_Line":
        """Return a new line; if Redis or the pool has no connection to spare, the next line that is free."""
        self._busy_count += 1
        try:
            return _Line(await self._pool.take_now())
        except (RedisError, OSError) as error:
            if self._idle:
                return self._idle.pop()
            if self._busy_count == 1:
                self._fail_waiting(error)
                raise
        finally:
            self._busy_count -= 1
        waiting: asyncio.Future[_Line] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._idle.append(waiting.result())
            raise

    async def _exchange(self, line: "_Line", commands: Sequence[CommandArgs], deadline: float) -> list[object]:
        self._busy_count += 1
        try:
            replies = await line.call(commands, deadline)
        except BaseException as error:  # the next exchange would take what is left of this one for its reply
            self._busy_count -= 1
            if not self._busy_count:
                self._fail_waiting(error)
            await self._release(line)
            if isinstance(error, ReadOnlyError):
                await self.close()
                await self._pool.close_idle()
            raise
        self._busy_count -= 1
        while self._waiting:
            if not (waiting := self._waiting.popleft()).done():
                waiting.set_result(line)
                return replies
        self._idle.append(line)
        return replies

    def _fail_waiting(self, error: BaseException) -> None:
        """Fail the calls that wait for a line: none is left that could become free."""
        while self._waiting:
            if not (waiting := self._waiting.popleft()).done():
                waiting.set_exception(Disconnected(f"no connection is free: {type(error).__name__}"))

    async def _release(self, line: "_Line") -> None:
        await line.connection.disconnect(nowait=True)
        await self._pool.release(line.connection)


class _Line(asyncio.Protocol):
    """One open connection, for one exchange at a time."""

    def __init__(self, connection: AbstractConnection) -> None:
        self.connection = connection
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_INCOMPLETE
        )
        self._replies: list[object] = []
        self._expected_count = 0
        self._result: asyncio.Future[list[object]] | None = None
        self._is_broken = False
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0  # of the exchange under way, by the event loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._transport, self._stream = detach_socket(connection, self)

    async def call(self, commands: Sequence[CommandArgs], deadline: float) -> list[object]:
        """Return the replies to `commands`. After any exception the connection cannot be used again."""
        if self._is_broken:
            raise Disconnected("closed while idle")
        self._result, self._replies, self._expected_count = self._loop.create_future(), [], len(commands)
        self._deadline = deadline
        if self._timer is None or self._timer_due > deadline:
            self._set_timer()
        try:
            for args in commands:
                self._transport.write(hiredis.pack_command(tuple(args)))  # type: ignore[arg-type]  # its stub has a tuple of one
            return await self._result
        finally:
            self._result = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due = self._loop.call_at(self._deadline, self._check_deadline), self._deadline

    def _check_deadline(self) -> None:
        """Fail the exchange under way if it is over its deadline. One timer serves all exchanges before it is due."""
        self._timer = None
        if self._result is None:
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._fail(TimedOut("no answer"))

    def data_received(self, data: bytes) -> None:
        """Parse replies."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._on_reply(reply)
        except RedisError as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the exchange in flight, if there is one; Redis or we closed the connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._stream.connection_lost(error)
        self._fail(Disconnected("closed by Redis") if error is None else error)

    def _on_reply(self, reply: object) -> None:
        if isinstance(reply, RedisError):
            raise reply
        self._replies.append(reply)
        if len(self._replies) > self._expected_count:
            raise InvalidResponse("more answers than commands")
        if len(self._replies) == self._expected_count and self._result is not None and not self._result.done():
            self._result.set_result(self._replies)

    def _fail(self, error: Exception) -> None:
        self._is_broken = True
        if self._result is not None and not self._result.done():
            self._result.set_exception(error)
