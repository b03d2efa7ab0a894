"""How to reach Redis, with Heroku's TLS, sockets and time-outs. Rule: it builds clients; their first use connects."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as TimedOut

from spokes.core.settings import Settings


class _FixedConnection(AbstractConnection):
    """What redis-py 5 does in a way that will not do for us.

    It loses cancellations: one that comes while it connects it takes for the end of the matter, and one that comes
    while it sends is lost by Python 3.11's `wait_for`; whoever cancelled would wait for ever. One that comes while it
    introduces itself leaves answers behind, which the next call would take for its own. And it packs the hundreds of
    words of a script's call one by one in Python.
    """

    async def connect(self) -> None:
        """Connect wholly or not at all; a cancellation stays one."""
        try:
            await super().connect()  # type: ignore[no-untyped-call]  # redis-py left it out
        except asyncio.CancelledError:
            await self.disconnect(nowait=True)
            raise
        if not self.is_connected:
            raise asyncio.CancelledError

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        """Send what was packed; a cancellation stays one.

        Raises:
            RedisError: the server is gone, or takes longer than the time-out.
        """
        if not self.is_connected:
            await self.connect()
        elif check_health:
            await self.check_health()  # type: ignore[no-untyped-call]  # as above
        if isinstance(command, str):
            command = command.encode()
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command([command] if isinstance(command, bytes) else command)
        except BaseException as error:  # a command may have gone half way
            await self.disconnect(nowait=True)
            if isinstance(error, OSError | RuntimeError):  # time-outs are among them; uvloop's word for "is closed" too
                raise (TimedOut if isinstance(error, TimeoutError) else Disconnected)("while writing") from error
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return an answer.

        A server that takes no writes has become another's replica: whoever asks again is to find, under the same
        address, the one that leads now.

        Raises:
            RedisError: the server refuses, is gone, or takes longer than the time-out.
        """
        try:
            return await super().read_response(*args, **options)
        except ReadOnlyError:
            await self.disconnect(nowait=True)
            raise

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command as Redis reads it; redis-py writes `SCRIPT LOAD` as one word."""
        words = (*args[0].split(), *args[1:]) if " " in str(args[0]) else args
        return [hiredis.pack_command(words)]


class _TcpConnection(_FixedConnection, Connection):
    pass


class _TlsConnection(_FixedConnection, SSLConnection):
    pass


class _UnixConnection(_FixedConnection, UnixDomainSocketConnection):
    pass


_FIXED_CLASSES: Final[dict[type, type]] = {
    Connection: _TcpConnection,
    SSLConnection: _TlsConnection,
    UnixDomainSocketConnection: _UnixConnection,
}


def redis_pool(settings: Settings, *, max_connections: int = 10, timeout_s: float | None = None) -> ConnectionPool:
    """Build the pool for REDIS_URL, or for the embedded Valkey in DATA_DIR.

    Args:
        max_connections: hosted Redis plans count connections, so every process bounds its own.
        timeout_s: for connecting and for each answer, in seconds; REDIS_TIMEOUT_S when None.
    """
    address = settings.redis_address
    seconds = settings.redis_timeout_s if timeout_s is None else timeout_s
    options: dict[str, object] = {
        "max_connections": max_connections,
        "timeout": seconds,  # for a free connection, when all are in use
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),  # whoever calls decides whether a repetition is safe
        "health_check_interval": 30,
    }
    if address.startswith("rediss://") and not settings.redis_tls_verify:
        options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    if address.startswith("unix://"):
        del options["socket_connect_timeout"]
    pool = BlockingConnectionPool.from_url(address, **options)
    pool.connection_class = _FIXED_CLASSES[pool.connection_class]
    return pool


def redis_client(settings: Settings, *, max_connections: int = 10, timeout_s: float | None = None) -> Redis:
    """Build a client that owns its pool; `await client.aclose()` ends both."""
    return Redis.from_pool(redis_pool(settings, max_connections=max_connections, timeout_s=timeout_s))


def detach_socket(
    connection: AbstractConnection, protocol: asyncio.Protocol
) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
    """Let everything that comes over an open connection go to `protocol`; return where to write.

    All that redis-py may do with the connection from then on is to close it. Returned is also redis-py's own protocol,
    which must be told when the connection is lost, because closing waits for that.

    Raises:
        ConnectionError: redis-py's; the connection is not open.
    """
    if (writer := connection._writer) is None:  # noqa: SLF001 - redis-py has no other way to its transport
        raise Disconnected("not open")
    transport = cast("asyncio.Transport", writer.transport)
    former = transport.get_protocol()
    transport.set_protocol(protocol)
    return transport, former
