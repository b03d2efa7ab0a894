"""The state of an install between its start and HubSpot's answer: a signed text that only one browser can use.

The browser has a cookie with a random id, and the signed state holds the hash of that id. So several installs may run
in one browser, and an unfinished one leaves nothing to clean up. The PKCE verifier is derived from the state's nonce
with a key that never leaves this deployment: nothing secret is in the state or the cookie.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import Final

import jwt

from spokes.core.errors import HttpProblem
from spokes.core.masking import derive_key

STATE_TTL_S: Final = 600
_AUDIENCE: Final = "spokes-install"
_ALGORITHM: Final = "HS256"
_BROWSER_ID: Final = re.compile(r"[\w-]{43}", re.ASCII)
_CLAIMS: Final = ("aud", "exp", "nonce", "browser", "portal", "marketplace", "return_url")


@dataclass(frozen=True, slots=True)
class InstallState:
    """What is known of an install since its start.

    `portal_id` is 0 if the customer chooses it at HubSpot. With `is_marketplace`, HubSpot started the authorisation, so
    there is no PKCE. `return_url` is where the browser goes in the end; empty: nowhere.
    """

    nonce: str
    portal_id: int = 0
    is_marketplace: bool = False
    return_url: str = ""


def new_nonce() -> str:
    """Return an unguessable nonce."""
    return secrets.token_urlsafe(32)


def browser_id(cookie: str) -> str:
    """Return the browser's id in its cookie, or a new one if the cookie holds none."""
    return cookie if _BROWSER_ID.fullmatch(cookie) else secrets.token_urlsafe(32)


class StateSigner:
    """Signs and reads states, and derives PKCE verifiers."""

    def __init__(self, master_key: str) -> None:
        self._key = derive_key(master_key, "install state")
        self._verifier_key = derive_key(master_key, "install verifier")

    def sign(self, state: InstallState, browser: str) -> str:
        """Return the text of a state, valid for ten minutes in the browser with this id."""
        claims = {
            "aud": _AUDIENCE, "exp": int(time.time()) + STATE_TTL_S, "nonce": state.nonce, "browser": _hash(browser),
            "portal": state.portal_id, "marketplace": state.is_marketplace, "return_url": state.return_url,
        }  # fmt: skip
        return jwt.encode(claims, self._key, _ALGORITHM)

    def read(self, text: str, browser: str) -> InstallState:
        """Return the state that `sign` made for this browser.

        Raises:
            HttpProblem: 400, it has expired; 403, it was not made here, or for another browser.
        """
        try:
            claims = jwt.decode(
                text, self._key, algorithms=[_ALGORITHM], audience=_AUDIENCE, options={"require": list(_CLAIMS)}
            )
        except jwt.ExpiredSignatureError:
            detail = "This install was started more than ten minutes ago, so it was not finished. Start again."
            raise HttpProblem(400, "install_expired", detail) from None
        except (jwt.PyJWTError, ValueError):
            detail = "This install was not started here, so it was not finished. Start again with the install link."
            raise HttpProblem(403, "install_forged", detail) from None
        if not hmac.compare_digest(str(claims["browser"]), _hash(browser)):
            detail = "This install was started in another browser, so it was not finished. Start again in this one."
            raise HttpProblem(403, "install_in_another_browser", detail)
        return InstallState(claims["nonce"], claims["portal"], claims["marketplace"], claims["return_url"])

    def verifier(self, nonce: str) -> str:
        """Return the PKCE verifier of the install with this nonce."""
        return _base64(hmac.digest(self._verifier_key, nonce.encode(), "sha256"))

    def challenge(self, nonce: str) -> str:
        """Return the PKCE challenge (S256) for the verifier."""
        return _base64(hashlib.sha256(self.verifier(nonce).encode()).digest())


def _hash(browser: str) -> str:
    return hashlib.sha256(browser.encode(errors="replace")).hexdigest()


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
