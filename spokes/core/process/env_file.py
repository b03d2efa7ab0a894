"""Read settings for development from `.env`, and HANDLERS from pyproject.toml; variables of the environment win.

Production reads no `.env`, and it reads pyproject.toml: that file is part of the deployed code.
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from io import StringIO
from pathlib import Path
from typing import Final

from spokes.core.errors import ConfigurationError
from spokes.core.process.project_file import handlers_of_project

_DEFAULT: Final = ".env"
_PRODUCTION_MARKS: Final = ("DYNO", "KUBERNETES_SERVICE_HOST")  # set by Heroku and by Kubernetes


def read_env_file(environ: MutableMapping[str, str] | None = None) -> None:
    """Set the variables that ENV_FILE (`.env` by default) gives a value and that are not set yet, then HANDLERS.

    Args:
        environ: variables by name; os.environ when None.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    environ = os.environ if environ is None else environ
    _read_env_file(environ)
    if not environ.get("HANDLERS") and (package := handlers_of_project(Path())):
        environ["HANDLERS"] = package


def _read_env_file(environ: MutableMapping[str, str]) -> None:
    name = environ.get("ENV_FILE", _DEFAULT).strip()
    if not name or is_production(environ):
        return
    path = Path(name)
    if name == _DEFAULT and not path.is_file():
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "is not UTF-8 text" if isinstance(error, ValueError) else error.strerror
        raise ConfigurationError([f"ENV_FILE: {name!r} cannot be read ({reason})."]) from None
    for variable, value in _assignments(name, text):
        if value:
            environ.setdefault(variable, value)


def is_production(environ: Mapping[str, str]) -> bool:
    """Return whether a host runs this process, or ENV says so."""
    return environ.get("ENV", "").lower() in {"production", "prod"} or any(map(environ.get, _PRODUCTION_MARKS))


def _assignments(name: str, text: str) -> Iterator[tuple[str, str]]:
    from dotenv.parser import parse_stream  # noqa: PLC0415 - most processes have no such file

    for line in parse_stream(StringIO(text)):
        if line.error or (line.key and "\0" in (line.value or "")):
            raise ConfigurationError(
                [f"ENV_FILE: line {line.original.line} of {name!r} is not of the form NAME=value."]
            )
        if line.key:
            yield line.key, line.value or ""
