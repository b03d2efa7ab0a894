"""Ports for servers that a test starts."""

import secrets
import socket
from contextlib import suppress
from typing import Final

# Below the ports that the kernel gives to connections and to servers without a port of their own: it could give one
# of those to another test before the server of this test listens there.
_PORTS: Final = range(10_000, 32_000)


def free_port() -> int:
    """Return a port of this machine on which nothing listens."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
