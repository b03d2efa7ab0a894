"""What people type into forms. Rule: read once, bounded, and a fault is told in a sentence."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from spokes.core.errors import HttpProblem

_MAX_LENGTH: Final = 500


def form_text(form: Mapping[str, object], name: str) -> str:
    """Return a field as text without spaces around it; empty when it is absent or a file."""
    value = form.get(name, "")
    return value.strip()[:_MAX_LENGTH] if isinstance(value, str) else ""


async def required_reason(request: web.Request) -> str:
    """Return why somebody does what they do.

    Raises:
        Problem: they do not say.
    """
    reason = form_text(await request.post(), "reason")
    if not reason:
        raise HttpProblem(422, "no_reason", "Say why: the reason stands in the audit. Go back and fill it in.")
    return reason
