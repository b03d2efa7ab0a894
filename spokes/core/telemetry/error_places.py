"""Class and place of an exception: safe for logs and records, unlike its text, which may quote a property value."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

_MAX_NAME_CHARS: Final = 100
_NOT_IN_A_NAME: Final = re.compile(r"\W")


def class_name(error: BaseException) -> str:
    """Return the name of an error's class; a class made at run time may have any text as its name."""
    name = type(error).__name__
    if len(name) <= _MAX_NAME_CHARS and name.isidentifier():
        return name
    return _NOT_IN_A_NAME.sub("_", name[:_MAX_NAME_CHARS])


def error_place(error: BaseException) -> str:
    """Return the file and line that raised `error`, or that called the library that did; empty without a traceback."""
    place = ""
    for frame, line in _frames(error):
        path = frame.f_code.co_filename
        if not place or "site-packages" not in path:
            place = f"{os.path.relpath(path)}:{line}"
    return place


def place_in_package(error: BaseException, package: str) -> str:
    """Return the deepest place of `error` in a package, such as `my_handlers/contacts.py:14`, else `error_place`.

    The path starts at the package, wherever that is installed.
    """
    place = ""
    for frame, line in _frames(error):
        module = str(frame.f_globals.get("__name__", ""))
        if module == package or module.startswith(f"{package}."):
            place = f"{_path_in_package(module, frame.f_code.co_filename)}:{line}"
    return place or error_place(error)


def _path_in_package(module: str, filename: str) -> str:
    parts, name = module.split("."), Path(filename).name
    return "/".join([*parts, name] if name == "__init__.py" else [*parts[:-1], name])


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return an error's traceback without code of its own class."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return trace


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    trace = traceback_of(error)
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next
