"""The public API for handler authors: `from spokes import Event, Router, Tools, uses`.

Names are loaded on first use, because every `import spokes.core.x` runs this module: an eager import would load the CRM
services into the web process and delay signal handling at start-up.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spokes.core.errors import (
        AmbiguousReference,
        Conflict,
        CRMError,
        InvalidRequest,
        NotPermitted,
        ObjectMerged,
        ObjectNotFound,
        PropertyNotDeclared,
        RetryLater,
        SpokesError,
        TransientCRMError,
    )
    from spokes.core.events import Event
    from spokes.crm.canonical_forms import canonical_domain, canonical_email, canonical_phone, e164
    from spokes.crm.objects import New
    from spokes.crm.records import Record
    from spokes.crm.results import ItemResult, ItemResults
    from spokes.crm.search import Condition, where
    from spokes.routing import Route, Router, Uses, uses
    from spokes.tools import CurrentValue, Once, Tools

__all__ = [
    "AmbiguousReference", "CRMError", "Condition", "Conflict", "CurrentValue", "Event", "InvalidRequest", "ItemResult",
    "ItemResults", "New", "NotPermitted", "ObjectMerged", "ObjectNotFound", "Once", "PropertyNotDeclared", "Record",
    "RetryLater", "Route", "Router", "SpokesError", "Tools", "TransientCRMError", "Uses", "canonical_domain",
    "canonical_email", "canonical_phone", "e164", "uses", "where",
]  # fmt: skip

_MODULES = {
    "spokes.core.errors": (
        "AmbiguousReference", "CRMError", "Conflict", "InvalidRequest", "NotPermitted", "ObjectMerged",
        "ObjectNotFound", "PropertyNotDeclared", "RetryLater", "SpokesError", "TransientCRMError",
    ),
    "spokes.core.events": ("Event",),
    "spokes.crm.objects": ("New",),
    "spokes.crm.records": ("Record",),
    "spokes.crm.results": ("ItemResult", "ItemResults"),
    "spokes.crm.search": ("Condition", "where"),
    "spokes.crm.canonical_forms": ("canonical_domain", "canonical_email", "canonical_phone", "e164"),
    "spokes.routing": ("Route", "Router", "Uses", "uses"),
    "spokes.tools": ("CurrentValue", "Once", "Tools"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # or type checkers would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'spokes' has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
