"""Whether a browser sent a form from our own page. Rule: browsers' word and our token must both agree."""

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

FIELD = "csrf"  # of a form
HEADER = "X-CSRF-Token"


def is_from_here(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that the request comes from a page of this very site; none says it, none believes it."""
    if site := headers.get("Sec-Fetch-Site"):
        return site == "same-origin"
    origin = urlsplit(headers.get("Origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == headers.get("Host", "").lower()


def is_ours(given: str, expected: str) -> bool:
    """Whether the token is the session's."""
    return bool(expected) and hmac.compare_digest(given.encode(errors="replace"), expected.encode())
