"""The project's pyproject.toml, which names the package of its handlers in `[tool.spokes]`."""

from pathlib import Path

from spokes.core.errors import ConfigurationError


def handlers_of_project(folder: Path) -> str:
    """Return `handlers` of `[tool.spokes]` in the folder's pyproject.toml; empty without it.

    Raises:
        ConfigurationError: the file is not TOML, or the value is not a text.
    """
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    if "spokes" not in text:
        return ""
    import tomllib  # noqa: PLC0415 - most processes start in a folder without such a file

    try:
        table = tomllib.loads(text).get("tool", {}).get("spokes", {})
        package = table.get("handlers", "")
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"pyproject.toml cannot be read: {error}."]) from None
    except AttributeError:
        package = None
    if not isinstance(package, str):
        raise ConfigurationError(
            ['pyproject.toml: [tool.spokes] takes handlers = "my_handlers", the name of a package.']
        )
    return package
