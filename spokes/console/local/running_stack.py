"""What a running `up` has made up, for commands in another terminal. Rule: its owner's only, and gone when it ends.

Where the simulator plays HubSpot its secrets are new each time; without them no other command could sign or ask.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FILE_NAME: Final = "up.json"
_DATA_DIR: Final = ".spokes"  # as in spokes.core.settings, which would be slow to load for a --help


def save_environment(data_dir: Path, environ: Mapping[str, str]) -> Path:
    """Let other commands know the variables of a run; return the file to remove when it ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / _FILE_NAME
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"pid": os.getpid(), "environ": dict(environ)}, file)
    return path


def load_environment() -> None:
    """Take over the variables of the run that serves DATA_DIR, where ours do not say otherwise."""
    try:
        told = json.loads((Path(os.environ.get("DATA_DIR") or _DATA_DIR) / _FILE_NAME).read_text())
        os.kill(told["pid"], 0)  # it lives
    except (OSError, ValueError, KeyError):
        return
    for name, value in told["environ"].items():
        os.environ.setdefault(name, value)
