"""Read forms, and their fields of bounded length."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from aiohttp import web
from multidict import MultiDictProxy

from spokes.console.number_input import parse_number
from spokes.console.time_input import parse_time
from spokes.console.web.request_checks import check_text, malformed_request
from spokes.core.errors import HttpProblem

_MAX_LENGTH: Final = 500


Form: TypeAlias = MultiDictProxy[str | bytes | bytearray | web.FileField]


async def read_form(request: web.Request) -> Form:
    """Return the form in the request's body; a request without one has an empty form.

    Raises:
        HttpProblem: 400, the body is not a form in its declared type and character set; 413, it is too large.
    """
    try:
        form = await request.post()
    except web.HTTPException:  # 413
        raise
    except Exception:  # noqa: BLE001 - of any kind: aiohttp's parsers raise many on bytes of a stranger
        raise malformed_request() from None
    for name, value in form.items():
        check_text((name, value) if isinstance(value, str) else (name,))
    return form


def form_text(form: Mapping[str, object], name: str, *, max_length: int = _MAX_LENGTH) -> str:
    """Return a field as stripped text, shortened to `max_length`; empty if it is absent or a file."""
    value = form.get(name, "")
    return value.strip()[:max_length] if isinstance(value, str) else ""


def form_time(form: Mapping[str, object], name: str) -> int | None:
    """Return a field as epoch ms; None if it is empty.

    Raises:
        HttpProblem: 422, it is not a time.
    """
    text = form_text(form, name)
    try:
        return parse_time(text) if text else None
    except (ValueError, OverflowError):
        sentence = f"{name.replace('_', ' ').capitalize()} is not a time. Go back and write 2026-11-23T14:00, 2h or 7d."
        raise HttpProblem(422, "wrong_time", sentence) from None


def required_number(text: str) -> int:
    """Return the number that a field or a parameter holds.

    Raises:
        HttpProblem: 400, it is no whole number of at most 18 digits.
    """
    number = parse_number(text)
    if number is None:
        raise HttpProblem(400, "wrong_number", "A number is malformed. Open the page again and repeat the action.")
    return number


async def required_reason(request: web.Request) -> str:
    """Return the reason that the operator gave for the action.

    Raises:
        HttpProblem: 422, the reason is empty.
    """
    reason = form_text(await read_form(request), "reason")
    if not reason:
        raise HttpProblem(422, "no_reason", "A reason is required for the audit log. Go back and fill it in.")
    return reason
