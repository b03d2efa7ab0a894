"""The names of a new project: its folder, and the Python package in it."""

import keyword
import re
import sys
from importlib.machinery import PathFinder
from typing import Final

from spokes.core.errors import ConfigurationError
from spokes.core.process.current_folder import OUR_PACKAGES

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*")
_MAX_CHARS: Final = 60
_FOLDERS_OF_PROJECT: Final = frozenset({"hubspot", "tests", "wheels"})


def package_of(name: str) -> str:
    """Return the name of the Python package of a project: `my_crm` for `my-crm`.

    Raises:
        ConfigurationError: no package can have that name, or another one has it.
    """
    if len(name) > _MAX_CHARS or not _NAME.fullmatch(name):
        raise ConfigurationError(
            [f"{name[:_MAX_CHARS]!r} is no name for a project: use letters, digits and hyphens, such as my-crm."]
        )
    package = name.replace("-", "_").lower()
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise _taken(name, f"{package!r} is a word of Python's language")
    if package in sys.stdlib_module_names:
        raise _taken(name, f"Python has a module {package!r}")
    if package in _FOLDERS_OF_PROJECT:
        raise _taken(name, f"the project has another folder {package!r}")
    if package in OUR_PACKAGES:
        raise _taken(name, f"Spokes has a package {package!r}")
    if PathFinder.find_spec(package, [path for path in sys.path if path.endswith("-packages")]):
        raise _taken(name, f"a package {package!r} is installed here")
    return package


def _taken(name: str, reason: str) -> ConfigurationError:
    return ConfigurationError([f"{name!r} is no name for a project: {reason}. Choose another, such as my-crm."])
