"""Files and folders that only this user can read, with any umask."""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from spokes.core.errors import ConfigurationError

NOT_WRITABLE: Final = "this user must not write there"
_OF_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def keep_files_private() -> None:
    """Let this process and its children create files with mode 0600 and folders with mode 0700."""
    os.umask(_OF_OTHERS)


def make_folder(path: Path, *, setting: str = "DATA_DIR") -> Path:
    """Return the folder, with its parents created if they are missing; others cannot read what is created.

    `setting` is the variable that names the folder.

    Raises:
        ConfigurationError: the folder cannot be used.
    """
    try:
        for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
            missing.mkdir(mode=stat.S_IRWXU, exist_ok=True)
    except (OSError, ValueError) as error:
        problem = folder_problem(path) or _reason(error)
        raise _unusable(path, problem, setting) from None
    if problem := folder_problem(path):
        raise _unusable(path, problem, setting)
    return path


def folder_problem(path: Path) -> str:
    """Return why a folder cannot be used, or not be created if it is missing; empty if it can. Creates nothing."""
    try:
        existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
        if not existing.is_dir():
            return "it is a file" if existing == path.absolute() else f"{str(existing)!r} is a file"
    except OSError as error:
        return _reason(error)
    return "" if os.access(existing, os.W_OK | os.X_OK) else NOT_WRITABLE


def private_folder(path: Path) -> Path:
    """Return the folder, created if it is missing, with access for this user only.

    A folder that holds more than our files keeps its mode: the current folder, the home folder, and their parents.

    Raises:
        ConfigurationError: the folder cannot be used.
    """
    folder = make_folder(path).resolve()
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.expanduser raises without a home
    shared = {place for base in (Path.cwd(), home) for place in (base, *base.parents)}
    if folder not in shared:
        make_private(folder)
    return path


def make_private(path: Path) -> None:
    """Take other users' access to a file or folder away, if it is ours."""
    status = path.lstat()
    if status.st_uid == os.getuid() and status.st_mode & _OF_OTHERS and not stat.S_ISLNK(status.st_mode):
        path.chmod(stat.S_IMODE(status.st_mode) & ~_OF_OTHERS)


def create_private_file(path: Path) -> None:
    """Create an empty file unless it exists, and make it private.

    An existing file is never opened: closing it again would end all locks that this process holds on it. SQLite in
    another process would then take itself for the last user, and delete the write-ahead log that we still write to.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR))
    make_private(path)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "its name is invalid"


def _unusable(path: Path, reason: str, setting: str) -> ConfigurationError:
    return ConfigurationError(
        [f"The folder {str(path)!r} cannot be used ({reason}). Set {setting} to a folder that this user can write to."]
    )
