"""Installs of the app in portals: codes, refresh tokens and access tokens, with their lifetimes."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from spokes.simulator.clock import Clock
from spokes.simulator.config import OAuthConfig
from spokes.simulator.oauth.refusals import (
    bad_auth_code,
    bad_client_id,
    bad_client_secret,
    bad_code_verifier,
    bad_hub,
    bad_redirect_uri,
    bad_refresh_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_CODE_S: Final = 60.0  # real seconds: a browser needs them


class CodeRequest(NamedTuple):
    """What an authorisation asks for, and its code grants."""

    portal_id: int
    redirect_uri: str
    scopes: frozenset[str]
    challenge: str = ""
    challenge_method: str = "plain"


class IssuedTokens(NamedTuple):
    """The tokens of one response."""

    portal_id: int
    access_token: str
    refresh_token: str
    scopes: frozenset[str]
    expires_in_s: int


@dataclass(slots=True)
class AccessToken:
    """An access token; `expires_at_s` on the simulator's monotonic clock."""

    portal_id: int
    scopes: frozenset[str]
    expires_at_s: float


@dataclass(slots=True)
class _RefreshToken:
    portal_id: int
    scopes: frozenset[str]
    is_superseded: bool = False  # by rotation; it works until its successor is used


class Installs:
    """The state of the OAuth server. Tokens name nothing and contain nothing."""

    def __init__(self, config: OAuthConfig, client_secret: str, clock: Clock, rng: Random) -> None:
        self.config = config
        self.client_secret = client_secret
        self.refuses_client = False  # as after a mistake in the app's settings at HubSpot
        self.refreshes: dict[int, int] = {}  # successful refreshes, by portal
        self.report_lifecycle: Callable[[int, str], None] = lambda _portal_id, _action: None
        self._clock = clock
        self._rng = rng
        self._codes: dict[str, tuple[CodeRequest, float]] = {}
        self._refresh_tokens: dict[str, _RefreshToken] = {}
        self._access_tokens: dict[str, AccessToken] = {}
        self._gone_hubs: set[int] = set()

    @property
    def portals(self) -> set[int]:
        """The portals that have the app installed."""
        return {token.portal_id for token in self._refresh_tokens.values()} - self._gone_hubs

    def check_client(self, client_id: str, client_secret: str) -> None:
        """Check the app's credentials.

        Raises:
            OAuthRefusal: they are wrong, or all are refused for now.
        """
        if client_id != self.config.client_id:
            raise bad_client_id()
        if self.refuses_client or not hmac.compare_digest(client_secret.encode(), self.client_secret.encode()):
            raise bad_client_secret()

    def authorize(self, request: CodeRequest) -> str:
        """Install the app; return the code with which the app gets its tokens."""
        code = self._new_text("code")
        self._codes[code] = (request, self._clock.monotonic_s() + _CODE_S)
        return code

    def exchange(self, code: str, redirect_uri: str, verifier: str) -> IssuedTokens:
        """Return the first tokens of an install; a code works once.

        Raises:
            OAuthRefusal: code, redirect address or verifier are wrong.
        """
        request, expires_at_s = self._codes.pop(code, (None, 0.0))
        if request is None or self._clock.monotonic_s() > expires_at_s:
            raise bad_auth_code()
        if redirect_uri != request.redirect_uri:
            raise bad_redirect_uri()
        if request.challenge and not _is_verifier(verifier, request):
            raise bad_code_verifier()
        if request.portal_id not in self.portals:
            self.report_lifecycle(request.portal_id, "APP_INSTALL")
        self._gone_hubs.discard(request.portal_id)
        refresh = self._new_text("na1-refresh")
        self._refresh_tokens[refresh] = _RefreshToken(request.portal_id, request.scopes)
        return self._issue(request.portal_id, refresh, request.scopes)

    def install(self, portal_id: int, scopes: frozenset[str]) -> IssuedTokens:
        """Install the app without a browser."""
        return self.exchange(self.authorize(CodeRequest(portal_id, "", scopes)), "", "")

    def refresh(self, refresh_token: str) -> IssuedTokens:
        """Return new tokens; with rotation, also a new refresh token.

        Raises:
            OAuthRefusal: the token is unknown, revoked or replaced.
        """
        token = self._refresh_tokens.get(refresh_token)
        if token is None:
            raise bad_refresh_token()
        if token.portal_id in self._gone_hubs:
            raise bad_hub()
        if not token.is_superseded:  # its predecessor has served its purpose
            self._drop_refresh_tokens(token.portal_id, keep=refresh_token, superseded_only=True)
        self.refreshes[token.portal_id] = self.refreshes.get(token.portal_id, 0) + 1
        if not self.config.rotates_refresh_tokens:
            return self._issue(token.portal_id, refresh_token, token.scopes)
        if self.config.keeps_previous_refresh_token:
            self._drop_refresh_tokens(token.portal_id, keep=refresh_token)
            token.is_superseded = True
        else:
            self._drop_refresh_tokens(token.portal_id)
        successor = self._new_text("na1-refresh")
        self._refresh_tokens[successor] = _RefreshToken(token.portal_id, token.scopes)
        return self._issue(token.portal_id, successor, token.scopes)

    def access(self, access_token: str) -> AccessToken | None:
        """Return an access token that was issued and not revoked, None for any other; it may have expired."""
        return self._access_tokens.get(access_token)

    def is_expired(self, token: AccessToken) -> bool:
        """Return whether a token's lifetime is over."""
        return self._clock.monotonic_s() >= token.expires_at_s

    def expires_in_s(self, token: AccessToken) -> int:
        """Return the seconds until a token expires, 0 afterwards."""
        return max(0, int(token.expires_at_s - self._clock.monotonic_s()))

    def revoke_refresh_token(self, refresh_token: str) -> None:
        """Revoke one refresh token; access tokens live on, and unknown tokens are ignored."""
        self._refresh_tokens.pop(refresh_token, None)

    def uninstall(self, portal_id: int, *, is_hub_gone: bool = False) -> None:
        """Remove the app from a portal: all its tokens stop at once. Refreshes fail with BAD_HUB if the hub is gone."""
        if portal_id in self.portals:
            self.report_lifecycle(portal_id, "APP_UNINSTALL")
        if is_hub_gone:
            self._gone_hubs.add(portal_id)  # its refresh token is kept, so that the refusal can name the hub
        else:
            self._drop_refresh_tokens(portal_id)
        self._drop_access_tokens(portal_id)

    def expire_access_tokens(self, portal_id: int | None = None) -> int:
        """End the lifetime of a portal's access tokens, or of all; return how many were valid."""
        valid = [
            token
            for token in self._access_tokens.values()
            if portal_id in {None, token.portal_id} and not self.is_expired(token)
        ]
        for token in valid:
            token.expires_at_s = self._clock.monotonic_s()
        return len(valid)

    def clear(self) -> None:
        """Forget every install, code and token."""
        for state in (self._codes, self._refresh_tokens, self._access_tokens, self._gone_hubs, self.refreshes):
            state.clear()
        self.refuses_client = False

    def _issue(self, portal_id: int, refresh_token: str, scopes: frozenset[str]) -> IssuedTokens:
        lifetime_s = self.config.access_token_s / self._clock.speed
        access = self._new_text("access")
        self._access_tokens[access] = AccessToken(portal_id, scopes, self._clock.monotonic_s() + lifetime_s)
        return IssuedTokens(portal_id, access, refresh_token, scopes, max(1, int(lifetime_s)))

    def _drop_refresh_tokens(self, portal_id: int, *, keep: str = "", superseded_only: bool = False) -> None:
        self._refresh_tokens = {
            text: token
            for text, token in self._refresh_tokens.items()
            if token.portal_id != portal_id or text == keep or (superseded_only and not token.is_superseded)
        }

    def _drop_access_tokens(self, portal_id: int) -> None:
        self._access_tokens = {
            text: token for text, token in self._access_tokens.items() if token.portal_id != portal_id
        }

    def _new_text(self, kind: str) -> str:
        return f"{kind}-{self._rng.getrandbits(256):064x}"


def _is_verifier(verifier: str, request: CodeRequest) -> bool:
    expected = verifier
    if request.challenge_method == "S256":
        digest = hashlib.sha256(verifier.encode()).digest()
        expected = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return bool(verifier) and hmac.compare_digest(expected.encode(), request.challenge.encode())
