"""Lua scripts are files beside the modules that run them; this reads them."""

from pathlib import Path
from typing import Final


def read_script(module_file: str, *names: str) -> str:
    """Return the text of Lua files in a module's folder, one after the other.

    Args:
        module_file: the `__file__` of the module.
        names: the files; a file may use the local functions of those before it.
    """
    folder = Path(module_file).parent
    return "".join((folder / name).read_text() for name in names)


ARGUMENTS: Final = read_script(__file__, "arguments.lua")  # in front of the scripts that read lists
FALSE_LEASE: Final = read_script(__file__, "false_lease.lua")  # in front of the scripts that acquire leases
