"""The public API for handler authors: `from spokes import Event, Router, Tools, uses`.

`spokes.errors` has the errors that are not here. docs/handlers.md says which changes a new version may bring.

Names are loaded on first use, because every `import spokes.core.x` runs this module: an eager import would load the CRM
services into the web process and delay signal handling at start-up.
"""

import importlib
import sys
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
    from spokes.crm.associations import Associations
    from spokes.crm.batching.association_reads import AssociatedObject, Label
    from spokes.crm.engagements import Engagements
    from spokes.crm.objects import New, Objects, Properties
    from spokes.crm.privacy import Export, Privacy
    from spokes.crm.records import Record
    from spokes.crm.results import ItemResult, ItemResults
    from spokes.crm.search import Condition, where
    from spokes.crm.services import Services
    from spokes.crm.values.canonical_forms import canonical_domain, canonical_email, canonical_phone, e164
    from spokes.crm.values.property_values import Value
    from spokes.handler_settings import HandlerSettings
    from spokes.http.calls import Http, HttpResponse
    from spokes.http.hosts import Host
    from spokes.portal import EventPortal, PortalSettings
    from spokes.routing import Handler, Route, Router, Uses, uses
    from spokes.tools import CurrentValue, Once, Tools

__all__ = [
    "AmbiguousReference", "AssociatedObject", "Associations", "CRMError", "Condition", "Conflict", "CurrentValue",
    "Engagements", "Event", "EventPortal", "Export", "Handler", "HandlerSettings", "Host", "Http", "HttpResponse",
    "InvalidRequest", "ItemResult", "ItemResults", "Label", "New", "NotPermitted", "ObjectMerged", "ObjectNotFound",
    "Objects", "Once", "PortalSettings", "Privacy", "Properties", "PropertyNotDeclared", "Record", "RetryLater",
    "Route", "Router", "Services", "SpokesError", "Tools", "TransientCRMError", "Uses", "Value", "canonical_domain",
    "canonical_email", "canonical_phone", "e164", "uses", "where",
]  # fmt: skip

_MODULES = {
    "spokes.core.errors": (
        "AmbiguousReference", "CRMError", "Conflict", "InvalidRequest", "NotPermitted", "ObjectMerged",
        "ObjectNotFound", "PropertyNotDeclared", "RetryLater", "SpokesError", "TransientCRMError",
    ),
    "spokes.core.events": ("Event",),
    "spokes.crm.associations": ("Associations",),
    "spokes.crm.batching.association_reads": ("AssociatedObject", "Label"),
    "spokes.crm.engagements": ("Engagements",),
    "spokes.crm.objects": ("New", "Objects", "Properties"),
    "spokes.crm.privacy": ("Export", "Privacy"),
    "spokes.crm.values.property_values": ("Value",),
    "spokes.crm.records": ("Record",),
    "spokes.crm.results": ("ItemResult", "ItemResults"),
    "spokes.crm.search": ("Condition", "where"),
    "spokes.crm.values.canonical_forms": ("canonical_domain", "canonical_email", "canonical_phone", "e164"),
    "spokes.crm.services": ("Services",),
    "spokes.handler_settings": ("HandlerSettings",),
    "spokes.http.calls": ("Http", "HttpResponse"),
    "spokes.http.hosts": ("Host",),
    "spokes.portal": ("EventPortal", "PortalSettings"),
    "spokes.routing": ("Handler", "Route", "Router", "Uses", "uses"),
    "spokes.tools": ("CurrentValue", "Once", "Tools"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
_RENAMED = {  # old names that work, with a warning, until the next major version
    "Associated": "AssociatedObject", "Fate": "ItemResult", "Fates": "ItemResults",
    "UnclearReference": "AmbiguousReference",
}  # fmt: skip


if not TYPE_CHECKING:  # or type checkers would accept any name

    def __getattr__(name: str) -> Any:
        if new_name := _RENAMED.get(name):
            importlib.import_module("spokes.core.deprecation").warn_renamed(f"spokes.{name}", f"spokes.{new_name}")
            return getattr(sys.modules[__name__], new_name)
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'spokes' has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
