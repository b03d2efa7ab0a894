"""Kinds of calls, as `contacts.write`: HubSpot may fail one kind while it answers the others. Pure.

A kind names an API family (an object type, `associations`, `properties` or `other`) and what the call does there.
"""

import re
from collections.abc import Mapping
from typing import Final

from spokes.crm.object_types import plural

_PATH: Final = re.compile(r"/crm/(?:v\d+/)?(objects|associations|properties)/(?:\d{4}-\d{2}/)?([^/]+)(.*)")
_READ_SUFFIXES: Final = ("/batch/read", "/labels")
_SEARCH_SUFFIX: Final = "/search"
_ASSOCIATIONS: Final = "associations"
_LIST_METHOD: Final = "associations.list"


def call_kind(method: str, path: str) -> str:
    """Return the kind of a call: `contacts.read`, `contacts.search`, `contacts.write`, `associations.read`, ..."""
    match = _PATH.fullmatch(path)
    if match is None:
        family, rest = "other", path
    else:
        family, rest = match[1], match[3]
        if family == "objects":
            family = _ASSOCIATIONS if "/associations" in rest else match[2]
    if rest.endswith(_SEARCH_SUFFIX):
        return f"{family}.search"
    return f"{family}.read" if method == "GET" or rest.endswith(_READ_SUFFIXES) else f"{family}.write"


def declares_kind(kind: str, reads: Mapping[str, object], may: frozenset[str], object_type: str) -> bool:
    """Return whether a handler's declaration names calls of a kind.

    Args:
        kind: see call_kind.
        reads: properties that the handler reads, by service.
        may: methods that it calls.
        object_type: of the event, which `objects` stands for in the declaration.
    """
    family, _, operation = kind.rpartition(".")
    if family == _ASSOCIATIONS:
        return any(
            method.startswith("associations.") and (method == _LIST_METHOD) == (operation == "read") for method in may
        )
    own_type = plural(object_type)
    if operation == "read":
        return any(_service(name, own_type) == family for name in reads)
    return operation == "write" and any(_service(method.rpartition(".")[0], own_type) == family for method in may)


def _service(declared: str, own_type: str) -> str:
    return own_type if declared in {"objects", "object"} else plural(declared)
