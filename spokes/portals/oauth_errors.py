"""Errors of HubSpot's OAuth endpoints, by what follows from them. Their text never quotes what was sent.

Source: HubSpot's changelog of 2026-01-27 (bodies of RFC 6749) and observed responses: docs/adr/0099. Whom a refusal
concerns: docs/adr/0126.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum, unique
from http import HTTPStatus
from typing import Final

from spokes.core.errors import SpokesError

_REVOKED: Final = frozenset({"bad_refresh_token", "bad_hub", "access_denied"})
_APP: Final = frozenset({"invalid_client", "unauthorized_client", "bad_client_id", "bad_client_secret"})
_INSTALL: Final = frozenset({"bad_auth_code", "bad_redirect_uri", "bad_code_verifier", "bad_scopes"})
_FORM: Final = frozenset({"bad_grant_type", "unsupported_grant_type"})  # what every portal's refresh has in common
_UNKNOWN_HUB: Final = "missing or unknown hub id"
_CLIENT_ERRORS: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class OAuthError(SpokesError):
    """Base of all; `code` is HubSpot's name for the error, empty if it gave none."""

    reason = "oauth"
    may_have_effect = False  # whether HubSpot may have issued tokens

    def __init__(self, code: str = "") -> None:
        super().__init__(code or self.reason)
        self.code = code


class PortalRevoked(OAuthError):
    """The portal removed the app or its tokens are revoked: only a new install helps."""

    reason = "portal_revoked"


class AppRefused(OAuthError):
    """HubSpot refuses our client id, client secret or kind of request: a fault of our configuration, of no portal."""

    reason = "app_refused"


class PortalRefused(OAuthError):
    """HubSpot refuses one portal's refresh token, or answers it with tokens of another portal.

    It does not say that the install has ended: the portal's refreshes wait, and those of the others go on.
    """

    reason = "portal_refused"

    def __init__(self, code: str = "", *, may_have_effect: bool = False) -> None:
        super().__init__(code)
        self.may_have_effect = may_have_effect


class InstallRefused(OAuthError):
    """HubSpot refuses one install: its code, redirect address, verifier or scopes."""

    reason = "install_refused"


class OAuthUnavailable(OAuthError):
    """HubSpot cannot answer now; `retry_after_s` is the wait that it asks for, 0 without one.

    `is_rate_limit` is true if the app has used up its calls. Any other failure may concern one portal alone.
    """

    reason = "oauth_unavailable"

    def __init__(
        self, code: str = "", *, retry_after_s: float = 0.0, may_have_effect: bool = True, is_rate_limit: bool = False
    ) -> None:
        super().__init__(code)
        self.retry_after_s = retry_after_s
        self.may_have_effect = may_have_effect
        self.is_rate_limit = is_rate_limit


@unique
class TokenRequest(Enum):
    """What a request to the token endpoints is about, hence whom a refusal concerns that we do not know."""

    INSTALL = "install"  # the code of one install
    REFRESH = "refresh"  # the refresh token of one portal
    APP = "app"  # the app itself: its own token, introspection, revocation


def oauth_error(status: int, body: Mapping[str, object], *, retry_after_s: float, request: TokenRequest) -> OAuthError:
    """Return the error for a response that is not 200.

    An unknown refusal of a refresh concerns its portal alone, and does not end the portal's install.

    Args:
        body: empty if it is not a JSON object.
    """
    error, code = _word(body.get("error")), _word(body.get("status"))
    words = {error, code} - {"", "error"}
    name = code if code not in {"", "error"} else error
    if status not in _CLIENT_ERRORS or not words:
        return OAuthUnavailable(
            name or str(status),
            retry_after_s=retry_after_s,
            may_have_effect=status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            is_rate_limit=status == HTTPStatus.TOO_MANY_REQUESTS,
        )
    if words & _APP or request is TokenRequest.APP:
        return AppRefused(name)
    if request is TokenRequest.INSTALL:
        return InstallRefused(name)
    if words & _FORM:
        return AppRefused(name)
    return PortalRevoked(name) if _is_revoked(words, body) else PortalRefused(name)


def _is_revoked(words: AbstractSet[str], body: Mapping[str, object]) -> bool:
    """Return whether HubSpot says that a refresh token or its hub is gone, and nothing more precise beside it."""
    if words & _INSTALL:
        return False
    message = f"{body.get('message', '')} {body.get('error_description', '')}".lower()
    return bool(words & _REVOKED) or _UNKNOWN_HUB in message or "invalid_grant" in words


def _word(value: object) -> str:
    """Return a code of HubSpot in lower case, empty if it is none."""
    word = value.lower() if isinstance(value, str) else ""
    return word if word.isascii() and word.replace("_", "").isalnum() and len(word) <= 40 else ""  # noqa: PLR2004 - a code
