"""What `@uses` may declare: services, properties and methods, as closed lists."""

import re
from collections.abc import Mapping
from typing import Final

from spokes.core.spelling import closest, did_you_mean
from spokes.crm.object_types import CUSTOM_TYPE, PLURALS, plural

_OWN_TYPE: Final = "objects"  # the object type of the event, in handlers of several types
_READ_METHODS: Final = ("get", "get_by", "get_many", "get_many_by", "search", "search_all", "list")
_WRITE_METHODS: Final = ("create", "update", "upsert", "archive", "merge")
_OBJECT_METHODS: Final[Mapping[str, str]] = {
    **{name: name for name in _WRITE_METHODS},
    **{f"{name}_many": name for name in _WRITE_METHODS if name != "merge"},
}
_ASSOCIATION_METHODS: Final[Mapping[str, str]] = {
    "list": "list", "list_labelled": "list", "labels": "list",
    "associate": "associate", "remove": "remove", "remove_label": "remove",
}  # fmt: skip
_PRIVACY_METHODS: Final[Mapping[str, str]] = {"delete": "delete", "gdpr_delete": "delete", "export": "export"}
_OTHER_SERVICES: Final = {"associations": _ASSOCIATION_METHODS, "privacy": _PRIVACY_METHODS}
_OBJECT_SERVICES: Final = (*PLURALS, _OWN_TYPE)
_OTHER_WORDS: Final[Mapping[str, str]] = {
    "write": "update", "edit": "update", "set": "update", "change": "update", "patch": "update",
    "add": "create", "new": "create", "insert": "create", "delete": "archive", "remove": "archive",
}  # fmt: skip
_PROPERTY: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SHAPE: Final = 'Write reads={"contacts": ("phone",)} and may=("contacts.update",).'


def read_declared_properties(declared: object) -> tuple[Mapping[str, tuple[str, ...]], tuple[str, ...]]:
    """Return the valid part of `reads`, and one sentence for each fault."""
    if declared is None:
        return {}, ()
    if not isinstance(declared, Mapping):
        return {}, (f"`reads` maps services to tuples of properties. {_SHAPE}",)
    properties: dict[str, tuple[str, ...]] = {}
    faults: list[str] = []
    for service, names in declared.items():
        if not isinstance(service, str) or not _is_object_service(service):
            faults.append(f"`reads` names {service!r}, which is no service.{_service_hint(service)}")
        elif not isinstance(names, tuple | list | set | frozenset) or not names:
            faults.append(f"`reads` of {service!r} takes a tuple of one or more properties. {_SHAPE}")
        elif wrong := [name for name in names if not isinstance(name, str) or not _PROPERTY.fullmatch(name)]:
            faults.append(
                f"`reads` of {service!r} names {wrong[0]!r}: write a property's internal name, not its label."
            )
        else:
            properties[service] = tuple(names)
    return properties, tuple(faults)


def read_declared_methods(declared: object) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the methods that `may` allows, and one sentence for each fault.

    `contacts.update_many` allows `contacts.update`. Reading objects needs no method, so such names are left out.
    """
    if not isinstance(declared, tuple | list | set | frozenset):
        return frozenset(), (f"`may` takes a tuple of methods. {_SHAPE}",)
    allowed: set[str] = set()
    faults: list[str] = []
    for declaration in declared:
        if not isinstance(declaration, str):
            faults.append(f"`may` names {declaration!r}, which is no method. {_SHAPE}")
            continue
        service, _, name = declaration.rpartition(".")
        methods = _OTHER_SERVICES.get(service, _OBJECT_METHODS)
        if not (is_known := service in _OTHER_SERVICES or _is_object_service(service)) or not _has(service, name):
            faults.append(_method_fault(declaration, is_known=is_known))
        elif name in methods:
            allowed.add(f"{service}.{methods[name]}")
    return frozenset(allowed), tuple(faults)


def _has(service: str, name: str) -> bool:
    """Return whether a service has a method; reading methods of objects count."""
    return (
        name in _OTHER_SERVICES[service] if service in _OTHER_SERVICES else name in {*_OBJECT_METHODS, *_READ_METHODS}
    )


def _is_object_service(name: str) -> bool:
    return name in _OBJECT_SERVICES or CUSTOM_TYPE.fullmatch(name) is not None


def _closest_service(name: object) -> str:
    """Return the service that was meant; the empty text if it cannot be guessed."""
    if not isinstance(name, str):
        return ""
    if (known := plural(name.casefold())) in _OBJECT_SERVICES:
        return known
    return closest(name, (*_OBJECT_SERVICES, *_OTHER_SERVICES))


def _service_hint(name: object) -> str:
    suggestion = _closest_service(name)
    if suggestion == "associations":
        return ' Associations are read with may=("associations.list",).'
    if suggestion in _OTHER_SERVICES:
        suggestion = ""
    valid = "contacts, companies, deals, tickets, notes, tasks, ...; objects; the id of a type, as 2-1234567"
    return did_you_mean(suggestion) or f" Valid services: {valid}."


def _method_fault(declaration: str, *, is_known: bool) -> str:
    """Return the sentence for a name that is no method."""
    service, _, name = declaration.rpartition(".")
    right_service = service if is_known else _closest_service(service)
    methods = tuple(dict.fromkeys(_OTHER_SERVICES.get(right_service, _OBJECT_METHODS).values()))
    readers = _READ_METHODS if right_service not in _OTHER_SERVICES else ()
    known = (*_OTHER_SERVICES.get(right_service, _OBJECT_METHODS), *readers)
    guess = _OTHER_WORDS.get(name, "")
    method = name if name in known else guess if guess in known else closest(name, known)
    suggestion = f"{right_service}.{method}" if right_service and method else ""
    valid = ", ".join(f"{right_service or 'contacts'}.{method}" for method in methods)
    return f"`may` names {declaration!r}, which is no method.{did_you_mean(suggestion)} Valid methods: {valid}."
