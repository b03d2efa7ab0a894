"""Refuse requests with text that no browser or program sends, before anything else reads it.

Parsers and databases raise on such text, each in its own way: bytes that are not UTF-8, which aiohttp turns into
surrogates, and NUL.
"""

from collections.abc import Iterable

from aiohttp import web

from spokes.core.errors import HttpProblem
from spokes.core.request_guard import is_plain_text


def check_request(request: web.Request) -> None:
    """Check headers, path and query of a request.

    Raises:
        HttpProblem: 400, a text is malformed; 415, the body is compressed.
    """
    check_text(request.headers.values())
    check_text((request.raw_path, *request.match_info.values()))
    if not request.path.startswith("/api/"):  # the API checks its queries against their declaration
        check_text(text for pair in request.query.items() for text in pair)
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise HttpProblem(415, "compressed_body", "Send the body without compression.")


def check_text(texts: Iterable[str]) -> None:
    """Check texts of a request.

    Raises:
        HttpProblem: 400, one of them holds NUL or was not UTF-8.
    """
    if not all(map(is_plain_text, texts)):
        raise malformed_request()


def malformed_request() -> HttpProblem:
    """Return the problem for a request that cannot be read."""
    return HttpProblem(400, "malformed_request", "The request holds text that cannot be read. Send it as UTF-8.")
