"""`InstallFlow`: starts an install, and finishes it with the code that HubSpot's answer carries.

A refused install stores nothing and leaves an earlier one of the portal as it is.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Final

import structlog
from redis.asyncio import Redis

from spokes.console.installs.hubspot_urls import authorize_url, scope_parameters, with_state
from spokes.console.installs.install_checks import check_app, check_portal, check_scopes
from spokes.console.installs.install_recorder import STORE_WAIT_S, InstallRecorder
from spokes.console.installs.install_state import STATE_TTL_S, InstallState, StateSigner, new_nonce
from spokes.console.installs.token_endpoint_problems import problem_for
from spokes.core.errors import AuditUnavailable, HttpProblem
from spokes.core.master_key import load_master_key
from spokes.core.redis.key_names.console_keys import used_install_state
from spokes.core.settings import Settings
from spokes.crm.scopes import ScopeRequirement, requested_scopes, required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.portals.oauth_client import OAuthClient, OAuthTokenInfo
from spokes.portals.oauth_errors import OAuthError, OAuthUnavailable
from spokes.portals.store import PortalStore
from spokes.portals.tokens import Tokens
from spokes.routing import Router, load_router

INSTALL_PATH: Final = "/oauth/install"
CALLBACK_PATH: Final = "/oauth/callback"
_INTROSPECTIONS: Final = 3  # the code is spent by then, so a short outage must not cost the install
_RETRY_S: Final = 0.5
_STORE_RETRY_AFTER_S: Final = 60
_STORE: Final = (
    f"The app's audit store (the SQL database that keeps installs) did not answer for {STORE_WAIT_S:.0f} seconds, so "
    "this install was not finished. Start again in a few minutes. If that does not help, the app's operator runs "
    "`spokes doctor`, which says what is wrong with the store."
)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Installation:
    """A finished install; `declined` are the optional scopes that the customer did not grant."""

    portal_id: int
    handler_count: int
    declined: tuple[str, ...]


class InstallFlow:
    """The installs of one app."""

    def __init__(self, settings: Settings, redis: Redis, store: PortalStore, client: OAuthClient) -> None:
        self._settings = settings
        self._redis = redis
        self._store = store
        self._client = client
        self._signer = StateSigner(load_master_key(settings))

    def start(self, browser: str, *, portal_id: int = 0, return_url: str = "") -> str:
        """Start an install in a browser; return the page of HubSpot that it goes to.

        Args:
            browser: the id in its cookie.
            portal_id: the only portal that may be installed; 0: the customer chooses one.
            return_url: a checked address that the browser goes to in the end.
        """
        settings, nonce = self._settings, new_nonce()
        state = self._signer.sign(InstallState(nonce, portal_id, return_url=return_url), browser)
        optional = settings.hubspot_optional_scopes
        parameters = {
            "client_id": settings.hubspot_client_id,
            "redirect_uri": self._address(CALLBACK_PATH),
            **scope_parameters(requested_scopes(self._required(self._router()), optional), optional),
            "state": state,
            "code_challenge": self._signer.challenge(nonce),
            "code_challenge_method": "S256",
        }
        return authorize_url(settings.hubspot_app_url, portal_id, parameters)

    def start_for_marketplace(self, browser: str, return_url: str) -> str:
        """Start an install that HubSpot's marketplace authorises; return the address that the browser goes back to."""
        state = InstallState(new_nonce(), is_marketplace=True)
        return with_state(return_url, self._signer.sign(state, browser))

    async def use_state(self, text: str, browser: str, *, is_marketplace: bool) -> InstallState:
        """Return the state of an install, and mark it as used.

        Raises:
            HttpProblem: 400 or 403, it is not valid for this browser, or was used.
            RedisError, OSError: Redis does not answer.
        """
        state = self._signer.read(text, browser)
        if state.is_marketplace != is_marketplace:
            detail = "This install was started in another way, so it was not finished. Start again."
            raise HttpProblem(403, "install_forged", detail)
        key = used_install_state(hashlib.sha256(state.nonce.encode()).hexdigest())
        if not await self._redis.set(key, 1, nx=True, ex=STATE_TTL_S):
            detail = "This install was finished or refused already. Start again if the app is not installed."
            raise HttpProblem(400, "install_replayed", detail)
        return state

    async def finish(self, code: str, path: str, state: InstallState) -> Installation:
        """Exchange the code for tokens, check and store them.

        Args:
            code: of HubSpot's answer.
            path: the path of ours that HubSpot called.
            state: of this install; of an install that the marketplace alone started, one without values.

        Raises:
            HttpProblem: 4xx, the install is refused; 502, HubSpot refuses our app; 503, HubSpot or the store does not
                answer.
            RedisError, OSError: Redis does not answer.
        """
        settings, router = self._settings, self._router()
        verifier = "" if state.is_marketplace else self._signer.verifier(state.nonce)
        try:
            tokens = await self._client.exchange(code, self._address(path), verifier)
            info = await self._introspect(tokens)
        except OAuthError as error:
            log.warning("install_failed", reason=error.reason, code=error.code)
            raise problem_for(error, self._address(path)) from None
        check_app(
            info.app_id, info.client_id, our_app_id=settings.hubspot_app_id, our_client_id=settings.hubspot_client_id
        )
        check_portal(info.hub_id, expected=state.portal_id, served=settings.portal_ids)
        check_scopes(info.hub_id, info.scopes, self._required(router))
        try:
            await InstallRecorder(settings, self._redis, self._store, self._client).record(tokens, info, state)
        except AuditUnavailable as error:
            log.warning("install_failed", reason=error.reason)
            raise HttpProblem(503, error.reason, _STORE, retry_after_s=_STORE_RETRY_AFTER_S) from None
        declined = tuple(scope for scope in settings.hubspot_optional_scopes if scope not in info.scopes)
        return Installation(info.hub_id, len({route.name for _, route in router}), declined)

    async def _introspect(self, tokens: Tokens) -> OAuthTokenInfo:
        """Return what HubSpot says about new tokens.

        Raises:
            HttpProblem: 400, they are not valid.
            OAuthError: HubSpot refuses the call, or does not answer several times.
        """
        info = await self._introspect_again(tokens, _INTROSPECTIONS)
        if not info.is_active:
            detail = "HubSpot does not accept the tokens that it issued, so nothing was installed. Start again."
            raise HttpProblem(400, "install_tokens_inactive", detail)
        return info

    async def _introspect_again(self, tokens: Tokens, attempts: int) -> OAuthTokenInfo:
        try:
            return await self._client.introspect(tokens.access_token.get_secret_value())
        except OAuthUnavailable:
            if attempts == 1:
                raise
        await asyncio.sleep(_RETRY_S)
        return await self._introspect_again(tokens, attempts - 1)

    def _router(self) -> Router:
        return load_router(self._settings.handlers)

    @staticmethod
    def _required(router: Router) -> frozenset[ScopeRequirement]:
        return required_scopes(handler_declarations(router))

    def _address(self, path: str) -> str:
        return self._settings.public_url.rstrip("/") + path
