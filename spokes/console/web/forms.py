"""Read form fields of bounded length."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from spokes.core.errors import HttpProblem

_MAX_LENGTH: Final = 500


def form_text(form: Mapping[str, object], name: str) -> str:
    """Return a field as stripped text; empty if it is absent or a file."""
    value = form.get(name, "")
    return value.strip()[:_MAX_LENGTH] if isinstance(value, str) else ""


async def required_reason(request: web.Request) -> str:
    """Return the reason that the operator gave for the action.

    Raises:
        HttpProblem: 422, the reason is empty.
    """
    reason = form_text(await request.post(), "reason")
    if not reason:
        raise HttpProblem(422, "no_reason", "A reason is required for the audit log. Go back and fill it in.")
    return reason
