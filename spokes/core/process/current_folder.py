"""The current folder, where a deployment's own packages lie: importable, and never in place of ours or of a library."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

from spokes.core.errors import ConfigurationError

_OURS: Final = Path(__file__).resolve().parents[3]
OUR_PACKAGES: Final = ("ingest", "spokes", "workers")


class _FolderFinder(MetaPathFinder):
    """Finds one top-level package in one folder."""

    def __init__(self, package: str, folder: str) -> None:
        self._package = package
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the package's spec; None for every other module."""
        del path, target
        return PathFinder.find_spec(fullname, [self._folder]) if fullname == self._package else None


@contextmanager
def from_current_folder(package: str) -> Iterator[None]:
    """Import a top-level package from the current folder inside the block, even if another one has its name.

    Other modules of the folder are importable from then on, after all others: a folder `redis` replaces no library.

    Raises:
        ConfigurationError: the folder has a package that is called like one of ours: only one of them can be imported.
    """
    try:
        folder = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    except OSError:
        raise ConfigurationError(["The current folder does not exist any more. Change to one that does."]) from None
    check_names(Path(folder))
    if folder not in sys.path:
        sys.path.append(folder)
    finder = _FolderFinder(package, folder)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def check_names(folder: Path) -> None:
    """Check that a folder, whose packages are to be imported, has none that is called like one of ours.

    Raises:
        ConfigurationError: it has one: only one of them can be imported.
    """
    for name in OUR_PACKAGES:
        package, module = folder / name, folder / f"{name}.py"
        place = module if module.is_file() else package
        if (place == module or any(package.glob("*.py"))) and place.resolve() != _OURS / name:
            sentence = f"{place.name}: Spokes has a package {name!r} too, so this one could not be imported. "
            raise ConfigurationError([f"{sentence}Give yours another name, or start Spokes in another folder."])
