"""What people type into forms. Rule: read once, bounded, and a fault is told in a sentence."""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from spokes.core.errors import Problem

_LONGEST: Final = 500


def text_of(form: Mapping[str, object], name: str) -> str:
    """Return a field as text without spaces around it; empty when it is absent or a file."""
    value = form.get(name, "")
    return value.strip()[:_LONGEST] if isinstance(value, str) else ""


async def reason_of(request: web.Request) -> str:
    """Return why somebody does what they do.

    Raises:
        Problem: they do not say.
    """
    reason = text_of(await request.post(), "reason")
    if not reason:
        raise Problem(422, "no_reason", "Say why: the reason stands in the audit. Go back and fill it in.")
    return reason
