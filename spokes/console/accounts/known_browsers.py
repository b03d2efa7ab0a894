"""Recognise the browser of an earlier login by a signed cookie, so that guesses of others do not lock its owner out.

The cookie grants nothing: it only selects which limit the attempts to log in count for. It names no account; its
signature belongs to one.
"""

import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Final

COOKIE: Final = "__Host-spokes-browser"
MAX_AGE_S: Final = 90 * 86_400


@dataclass(frozen=True, slots=True)
class KnownBrowsers:
    """Issues and recognises cookies; `key` signs them."""

    key: bytes

    def issue(self, account: str) -> str:
        """Return the cookie for a browser that logged in to `account`."""
        browser, issued = secrets.token_hex(8), str(int(time.time()))
        return f"{browser}.{issued}.{self._sign(account, browser, issued)}"

    def recognise(self, cookie: str, account: str) -> str:
        """Return the browser's id if it logged in to `account` within the last 90 days, else an empty string."""
        browser, _, rest = cookie.partition(".")
        issued, _, signature = rest.partition(".")
        expected = self._sign(account, browser, issued)
        if not hmac.compare_digest(signature.encode(errors="replace"), expected.encode()):
            return ""
        return browser if time.time() - int(issued) < MAX_AGE_S else ""

    def _sign(self, account: str, browser: str, issued: str) -> str:
        text = f"{account}\0{browser}\0{issued}".encode(errors="replace")
        return hmac.digest(self.key, text, "sha256").hex()
