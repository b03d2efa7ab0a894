"""Errors of HubSpot's OAuth endpoints, by what follows from them. Their text never quotes what was sent.

Source: HubSpot's changelog of 2026-01-27 (bodies of RFC 6749) and observed responses: docs/adr/0099.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from spokes.core.errors import SpokesError

_REVOKED: Final = frozenset({"bad_refresh_token", "bad_hub", "access_denied"})
_APP: Final = frozenset({"invalid_client", "unauthorized_client", "bad_client_id", "bad_client_secret"})
_INSTALL: Final = frozenset({
    "bad_auth_code", "bad_redirect_uri", "bad_code_verifier", "bad_scopes", "bad_grant_type",
})  # fmt: skip
_UNKNOWN_HUB: Final = "missing or unknown hub id"
_CLIENT_ERRORS: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class OAuthError(SpokesError):
    """Base of all; `code` is HubSpot's name for the error, empty if it gave none."""

    reason = "oauth"

    def __init__(self, code: str = "") -> None:
        super().__init__(code or self.reason)
        self.code = code


class PortalRevoked(OAuthError):
    """The portal removed the app or its tokens are revoked: only a new install helps."""

    reason = "portal_revoked"


class AppRefused(OAuthError):
    """HubSpot refuses our client id, client secret or request: a fault of our configuration, of no portal."""

    reason = "app_refused"


class InstallRefused(OAuthError):
    """HubSpot refuses one install: its code, redirect address, verifier or scopes."""

    reason = "install_refused"


class OAuthUnavailable(OAuthError):
    """HubSpot cannot answer now; `retry_after_s` is the wait that it asks for, 0 without one.

    `may_have_effect` is false if HubSpot refused the request: it issued no tokens.
    """

    reason = "oauth_unavailable"

    def __init__(self, code: str = "", *, retry_after_s: float = 0.0, may_have_effect: bool = True) -> None:
        super().__init__(code)
        self.retry_after_s = retry_after_s
        self.may_have_effect = may_have_effect


def oauth_error(status: int, body: Mapping[str, object], *, retry_after_s: float, is_refresh: bool) -> OAuthError:
    """Return the error for a response that is not 200. A body that is unknown never blames a portal.

    Args:
        body: empty if it is not a JSON object.
        is_refresh: whether a refresh token was sent, rather than the code of an install.
    """
    error, code = _word(body.get("error")), _word(body.get("status"))
    message = f"{body.get('message', '')} {body.get('error_description', '')}".lower()
    words = {error, code} - {"", "error"}
    name = code if code not in {"", "error"} else error
    if status not in _CLIENT_ERRORS or not words:
        may_have_effect = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return OAuthUnavailable(name or str(status), retry_after_s=retry_after_s, may_have_effect=may_have_effect)
    if words & _APP:
        return AppRefused(name)
    if words & _INSTALL:
        return AppRefused(name) if is_refresh else InstallRefused(name)
    if words & _REVOKED or _UNKNOWN_HUB in message or "invalid_grant" in words:
        return PortalRevoked(name) if is_refresh else InstallRefused(name)
    return AppRefused(name) if is_refresh else InstallRefused(name)


def _word(value: object) -> str:
    """Return a code of HubSpot in lower case, empty if it is none."""
    word = value.lower() if isinstance(value, str) else ""
    return word if word.isascii() and word.replace("_", "").isalnum() and len(word) <= 40 else ""  # noqa: PLR2004 - a code
