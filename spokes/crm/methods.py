"""Methods that a handler may be allowed, by any of their names. Rule: closed, so a misspelt one is told at start."""

from collections.abc import Iterable, Mapping
from typing import Final

from spokes.core.errors import ConfigurationError

_READING: Final = frozenset({"get", "get_by", "get_many", "get_many_by", "search", "search_all", "list"})
_CHANGING: Final = ("create", "update", "upsert", "archive", "merge")
_OBJECTS: Final[Mapping[str, str]] = {
    **{name: name for name in _CHANGING},
    **{f"{name}_many": name for name in _CHANGING if name != "merge"},
}
_ASSOCIATIONS: Final[Mapping[str, str]] = {
    "list": "list", "list_labelled": "list", "labels": "list",
    "associate": "associate", "remove": "remove", "remove_label": "remove",
}  # fmt: skip
_PRIVACY: Final[Mapping[str, str]] = {"delete": "delete", "gdpr_delete": "delete", "export": "export"}
_SERVICES: Final = {"associations": _ASSOCIATIONS, "privacy": _PRIVACY}


def allowed(declared: Iterable[str]) -> frozenset[str]:
    """Return what `declared` stands for: `contacts.update_many` is `contacts.update`; reading objects needs no method.

    Raises:
        ConfigurationError: one of them is no method of its service.
    """
    found: set[str] = set()
    faults: list[str] = []
    for one in declared:
        service, _, name = one.rpartition(".")
        methods = _SERVICES.get(service, _OBJECTS)
        if service and name in methods:
            found.add(f"{service}.{methods[name]}")
        elif not service or methods is not _OBJECTS or name not in _READING:
            there = ", ".join(f"{service or 'contacts'}.{name}" for name in dict.fromkeys(methods.values()))
            faults.append(f"A handler's `may` names {one!r}, which is no method; there are {there}.")
    if faults:
        raise ConfigurationError(faults)
    return frozenset(found)
