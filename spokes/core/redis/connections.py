"""Build Redis clients and pools: TLS, sockets, time-outs, and fixes of redis-py. Their first use connects."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as TimedOut

from spokes.core.redis.pool import RedisPool
from spokes.core.settings import Settings


class _FixedConnection(AbstractConnection):
    """Fixes of redis-py 5.

    redis-py loses cancellations: it swallows one that arrives while it connects, and Python 3.11's `wait_for` loses
    one that arrives while it sends; the canceller would wait for ever. A cancellation during the handshake leaves
    responses unread, which the next call would take for its own. redis-py also packs the hundreds of arguments of a
    script call one by one in Python; hiredis packs them in C.
    """

    async def connect(self) -> None:
        """Connect and finish the handshake, or close the connection; let a cancellation through."""
        try:
            await super().connect()  # type: ignore[no-untyped-call]  # redis-py has no annotation
        except asyncio.CancelledError:
            await self.disconnect(nowait=True)
            raise
        if not self.is_connected:
            raise asyncio.CancelledError

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        """Send a packed command; let a cancellation through.

        Raises:
            RedisError: the connection is lost, or sending takes longer than the time-out.
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
        except BaseException as error:  # a command may be half sent
            await self.disconnect(nowait=True)
            # OSError includes time-outs; uvloop raises RuntimeError for a closed transport.
            if isinstance(error, OSError | RuntimeError):
                raise (TimedOut if isinstance(error, TimeoutError) else Disconnected)("while writing") from error
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return a response.

        READONLY means that the primary has moved: drop the connection, so that the next attempt resolves the address
        to the new primary.

        Raises:
            RedisError: the server returns an error, the connection is lost, or the time-out expires.
        """
        try:
            return await super().read_response(*args, **options)
        except ReadOnlyError:
            await self.disconnect(nowait=True)
            raise

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command in Redis' protocol; redis-py passes `SCRIPT LOAD` as one argument."""
        split_args = (*args[0].split(), *args[1:]) if " " in str(args[0]) else args
        return [hiredis.pack_command(split_args)]


class _TcpConnection(_FixedConnection, Connection):
    pass


class _TlsConnection(_FixedConnection, SSLConnection):
    pass


class _UnixConnection(_FixedConnection, UnixDomainSocketConnection):
    pass


def redis_pool(settings: Settings, *, max_connections: int = 2, timeout_s: float | None = None) -> RedisPool:
    """Build the pool for REDIS_URL, or for the embedded Valkey in DATA_DIR.

    Args:
        max_connections: hosted Redis plans limit the connections of all processes together.
        timeout_s: for connecting and for each response, in seconds; REDIS_TIMEOUT_S when None.
    """
    seconds = settings.redis_timeout_s if timeout_s is None else timeout_s
    options: dict[str, object] = {
        "socket_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),  # the caller decides whether a retry is safe
        "health_check_interval": 30,
    }
    return RedisPool(
        max_connections=max_connections,
        timeout=seconds,  # wait for a free connection
        **options,
        **_server_options(settings, seconds),
    )


def _server_options(settings: Settings, connect_timeout_s: float) -> dict[str, object]:
    """Return the options of the connections that lead to the server of REDIS_URL."""
    server = settings.redis_server
    options: dict[str, object] = {"db": server.database}
    if server.user:
        options["username"] = server.user
    if server.password:
        options["password"] = server.password
    if server.socket:
        return options | {"connection_class": _UnixConnection, "path": server.socket}
    options |= {"host": server.host, "port": server.port, "socket_connect_timeout": connect_timeout_s}
    if not server.tls:
        return options | {"connection_class": _TcpConnection}
    verify = server.verify or ("required" if settings.redis_tls_verify else "none")
    check_host = verify == "required" if server.check_host is None else server.check_host
    return options | {
        "connection_class": _TlsConnection,
        "ssl_cert_reqs": verify,
        "ssl_check_hostname": check_host and verify != "none",
        **server.tls_files,
    }


def redis_client(settings: Settings, *, max_connections: int = 2, timeout_s: float | None = None) -> Redis:
    """Build a client that owns its pool; `await client.aclose()` closes both."""
    return Redis.from_pool(redis_pool(settings, max_connections=max_connections, timeout_s=timeout_s))


def detach_socket(
    connection: AbstractConnection, protocol: asyncio.Protocol
) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
    """Take the transport of an open connection from redis-py; `protocol` receives all further data.

    Return the transport and redis-py's own protocol. From then on redis-py may only close the connection; closing waits
    for `connection_lost` of redis-py's protocol, so `protocol` must forward that call.

    Raises:
        ConnectionError: redis-py's; the connection is not open.
    """
    if (writer := connection._writer) is None:  # noqa: SLF001 - redis-py has no other way to its transport
        raise Disconnected("not open")
    transport = cast("asyncio.Transport", writer.transport)
    redis_protocol = transport.get_protocol()
    transport.set_protocol(protocol)
    return transport, redis_protocol
