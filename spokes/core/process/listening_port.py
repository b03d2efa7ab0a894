"""Check the address to listen on before a server starts there, because each server reports a taken port differently."""

import errno
import socket
from typing import Final

from spokes.core.errors import ConfigurationError

_REASONS: Final = {
    errno.EADDRINUSE: "another program listens there",
    errno.EACCES: "this user must not use ports below 1024",
    errno.EADDRNOTAVAIL: "this machine does not have the address",
}


def check_address(host: str, port: int, *, names: str = "HOST and PORT") -> None:
    """Check that a server can listen on `host` and `port`; port 0 is any free port.

    Args:
        names: what to change, for the sentence.

    Raises:
        ConfigurationError: it cannot, with the reason and what to change.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
            probe.listen(1)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = (
            _REASONS.get(getattr(error, "errno", None) or 0) or getattr(error, "strerror", None) or "no such address"
        )
        raise ConfigurationError(
            [f"{names}: nothing can listen on port {port} of {host} ({reason}). End the other program, or set another."]
        ) from None


def free_port() -> int:
    """Return an unused port of this machine.

    Raises:
        ConfigurationError: there is none.
    """
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError:
            raise ConfigurationError(
                ["There is no free port on 127.0.0.1. Close a program that listens there."]
            ) from None
        return int(probe.getsockname()[1])


def check_loopback() -> None:
    """Check that programs of this machine can connect to each other on 127.0.0.1.

    Raises:
        ConfigurationError: they cannot.
    """
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(1)
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        reason = error.strerror or "no answer"
        message = f"Programs on this machine cannot reach each other on 127.0.0.1 ({reason})."
        raise ConfigurationError([f"{message} Enable the loopback interface: ip link set lo up."]) from None
