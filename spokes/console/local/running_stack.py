"""The variables that a running `up` generated, for commands in another terminal.

The simulator's secrets are new in each run; without them no other command could sign a request or call the simulator.
The file is readable by its owner only and is removed when `up` ends.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from spokes.core.process.private_files import private_folder

_FILE_NAME: Final = "up.json"
_DATA_DIR: Final = ".spokes"  # the default of spokes.core.settings, whose import would slow down --help


def save_environment(data_dir: Path, environ: Mapping[str, str]) -> Path:
    """Write the variables of this run to a file; return its path, to be removed when the run ends."""
    path = private_folder(data_dir) / _FILE_NAME
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"pid": os.getpid(), "environ": dict(environ)}, file)
    return path


def load_environment() -> None:
    """Set the variables of the run that serves DATA_DIR, except those that are already set."""
    try:
        saved = json.loads((Path(os.environ.get("DATA_DIR") or _DATA_DIR) / _FILE_NAME).read_text())
        os.kill(saved["pid"], 0)  # raises if the run has ended
    except (OSError, ValueError, KeyError):
        return
    for name, value in saved["environ"].items():
        os.environ.setdefault(name, value)
