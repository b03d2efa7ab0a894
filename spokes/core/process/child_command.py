"""Start modules of Spokes as child processes that run the code of their parent, not packages of the current folder."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_ROOT: Final = str(Path(__file__).parents[3])


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs `module`; a package of the same name in the current folder is not imported."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` and where Python finds the packages that `module_command` runs."""
    paths = [_ROOT, *(path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != _ROOT)]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths)}
