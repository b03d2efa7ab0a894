"""Start modules of Spokes as processes that run the code of this one, not packages of the current folder."""

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

_ROOT: Final = str(Path(__file__).parents[3])
_IS_INSTALLED: Final = _ROOT in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs `module`; a package of the same name in the current folder is not imported."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` and where Python finds the packages that `module_command` runs.

    Python finds installed packages by itself. PYTHONPATH would put them before the standard library.
    """
    if _IS_INSTALLED:
        return dict(environ)
    paths = [_ROOT, *(path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != _ROOT)]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths)}


def become(module: str, *arguments: str) -> NoReturn:
    """Replace this process by one that runs `module`: a supervisor's signals and the exit code need no forwarding."""
    sys.stdout.flush()
    os.execve(sys.executable, module_command(module, *arguments), module_environment(os.environ))  # noqa: S606 - our own module, without a shell
