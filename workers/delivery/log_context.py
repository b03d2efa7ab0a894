"""The fields of every line that is logged while a handler runs: the delivery and the portal of its event."""

from contextvars import ContextVar, copy_context
from typing import Any, Final

import structlog

from spokes.core.delivery import Delivery


def _variable(field: str) -> ContextVar[Any]:
    """Return structlog's variable of a field: setting it costs a third of binding the field anew."""
    tokens = copy_context().run(structlog.contextvars.bind_contextvars, **{field: None})
    return tokens[field].var


_DELIVERY_ID: Final = _variable("delivery_id")
_PORTAL_ID: Final = _variable("portal_id")


def log_as_part_of(delivery: Delivery) -> None:
    """Let the current task log with these fields from now on."""
    if _DELIVERY_ID.get(None) != delivery.id:
        _DELIVERY_ID.set(delivery.id)
        _PORTAL_ID.set(delivery.portal_id)
