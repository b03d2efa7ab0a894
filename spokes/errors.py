"""Every error that a handler may raise, catch or see: `from spokes.errors import ObjectNotFound`.

The most common ones are names of `spokes` too. A handler raises `RetryLater`; it rarely catches any, because the worker
decides what each means for the event. Texts and fields of these errors never hold a property value.
"""

from typing import TYPE_CHECKING

from spokes.core.deprecation import deprecated_names
from spokes.core.errors import (
    AmbiguousReference,
    ConfigurationError,
    Conflict,
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    LeaseLost,
    NoCredentials,
    NotAuthorized,
    NotPermitted,
    ObjectLocked,
    ObjectMerged,
    ObjectNotFound,
    PermanentCRMError,
    PortalMoving,
    PropertyNotDeclared,
    ProxyRefusal,
    RateLimited,
    RetryLater,
    SpokesError,
    TransientCRMError,
)
from spokes.crm.batching.errors import CreationUnreadable
from spokes.http.errors import (
    HttpError,
    HttpNotSent,
    HttpRateLimited,
    HttpRateReached,
    HttpRefusal,
    HttpUnavailable,
    TransientHttpError,
)
from spokes.portal import PortalSettingsInvalid
from spokes.tools import ToolsInOtherThread

__all__ = [
    "AmbiguousReference", "CRMError", "CRMUnavailable", "ConfigurationError", "Conflict", "CreationUnreadable",
    "HttpError", "HttpNotSent", "HttpRateLimited", "HttpRateReached", "HttpRefusal", "HttpUnavailable",
    "InvalidRequest", "LeaseLost", "NoCredentials", "NotAuthorized", "NotPermitted", "ObjectLocked", "ObjectMerged",
    "ObjectNotFound", "PermanentCRMError", "PortalMoving", "PortalSettingsInvalid", "PropertyNotDeclared",
    "ProxyRefusal", "RateLimited", "RetryLater", "SpokesError", "ToolsInOtherThread", "TransientCRMError",
    "TransientHttpError",
]  # fmt: skip

if not TYPE_CHECKING:  # type checkers know the new name only
    __getattr__ = deprecated_names(__name__, {"UnclearReference": "AmbiguousReference"})
