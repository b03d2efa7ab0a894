"""Aliases for renamed parts of the handler API: the old name works until the next major version and warns."""

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


class DeprecatedAlias:
    """The old name of an attribute or method, as a class attribute: `standing = DeprecatedAlias("current_value")`."""

    def __init__(self, new_name: str) -> None:
        self._new_name = new_name
        self._old_name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._old_name = name

    def __get__(self, instance: object, owner: type) -> Any:
        """Warn, and return the instance's attribute under its new name; return the alias itself on a class."""
        if instance is None:
            return self
        warn_renamed(f"{owner.__name__}.{self._old_name}", f"{owner.__name__}.{self._new_name}")
        return getattr(instance, self._new_name)


def deprecated_names(module: str, new_names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module whose objects were renamed; `new_names` maps old names to new ones."""

    def resolve(name: str) -> Any:
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", f"{module}.{new_names[name]}")
        return getattr(sys.modules[module], new_names[name])

    return resolve


def warn_renamed(old: str, new: str) -> None:
    """Warn at the line that caused the call of the caller."""
    message = f"{old} is renamed to {new}; the old name will be removed in the next major version"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
