"""How to reach Redis, with Heroku's TLS, sockets and time-outs. Rule: it builds clients; their first use connects."""

from typing import Any, Final

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from core.settings import Settings


class _Packing:
    """Packs commands in C: a script's call has hundreds of words, and redis-py packs them one by one in Python."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command as Redis reads it; redis-py writes `SCRIPT LOAD` as one word."""
        words = (*args[0].split(), *args[1:]) if " " in str(args[0]) else args
        return [hiredis.pack_command(words)]


class _Plain(_Packing, Connection):
    pass


class _TLS(_Packing, SSLConnection):
    pass


class _Socket(_Packing, UnixDomainSocketConnection):
    pass


_PACKING: Final[dict[type, type]] = {Connection: _Plain, SSLConnection: _TLS, UnixDomainSocketConnection: _Socket}


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
    pool.connection_class = _PACKING[pool.connection_class]
    return pool


def redis_client(settings: Settings, *, max_connections: int = 10, timeout_s: float | None = None) -> Redis:
    """Build a client that owns its pool; `await client.aclose()` ends both."""
    return Redis.from_pool(redis_pool(settings, max_connections=max_connections, timeout_s=timeout_s))
