"""`InstallRecorder`: record a checked install in audit and store, and let what waits for it run.

An install is recorded in the audit before it is stored: no stored install is without a record. Its code is spent by
then, so a short outage of the store must not cost the install.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import structlog
from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append_now
from spokes.console.installs.install_state import InstallState
from spokes.core.clock import now_ms
from spokes.core.errors import AuditUnavailable
from spokes.core.settings import Settings
from spokes.intake.portal_events import PORTAL_INSTALLED, queue_portal_event
from spokes.portals.lifecycles import Lifecycle, note_lifecycles
from spokes.portals.oauth_client import OAuthClient, OAuthTokenInfo
from spokes.portals.pending_tokens import PendingTokenStore
from spokes.portals.profile_store import ProfileStore
from spokes.portals.published_profiles import publish
from spokes.portals.store import PortalStore
from spokes.portals.token_alerts import end_token_alerts
from spokes.portals.tokens import Tokens

INSTALLER: Final = "installer"  # the actor of an install in the audit: a customer, who has no account here
STORE_WAIT_S: Final = 15.0  # for which a person waits for the page in all; a restart of PostgreSQL takes some seconds
_STORE_RETRY_S: Final = 0.5
_ACCOUNT_WAIT_S: Final = 5.0  # for which the page waits to store the account's name and time zone
_T = TypeVar("_T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class InstallRecorder:
    """Records the installs of one app; the caller closes what it uses."""

    settings: Settings
    redis: Redis
    store: PortalStore
    client: OAuthClient

    async def record(self, tokens: Tokens, info: OAuthTokenInfo, state: InstallState) -> None:
        """Record an install; `tokens` and what HubSpot says about them are checked.

        Raises:
            AuditUnavailable: the store does not answer for some seconds.
            RedisError, OSError: Redis does not answer.
        """
        portal_id, deadline = info.hub_id, asyncio.get_running_loop().time() + STORE_WAIT_S
        earlier = await _once_available(lambda: self.store.get(portal_id), deadline)
        detail = {
            "scopes": sorted(info.scopes),
            "by": "marketplace" if state.is_marketplace else "link",
            **({"earlier_state": earlier.state.value} if earlier else {}),
        }
        record = AuditRecord(action=Action.PORTAL_INSTALLED, portal_id=portal_id, actor=INSTALLER, detail=detail)
        await append_now(self.redis, record)
        await queue_portal_event(
            PORTAL_INSTALLED, portal_id, occurred_at=now_ms(), settings=self.settings, redis=self.redis
        )
        await _once_available(lambda: self.store.save_install(portal_id, tokens, info.scopes), deadline)
        await PendingTokenStore(self.redis, self.store.vault).delete(portal_id)  # of the earlier install
        await note_lifecycles(self.redis, [Lifecycle(portal_id, is_install=True, occurred_at=now_ms())])
        await end_token_alerts(self.redis, portal_id)
        await self._save_account(portal_id, tokens)
        log.info("portal_installed", portal_id=portal_id)

    async def _save_account(self, portal_id: int, tokens: Tokens) -> None:
        """Store what HubSpot says about the account; the portal is installed without it too."""
        account = await self.client.account(tokens.access_token.get_secret_value())
        profiles = ProfileStore(self.store.engine, self.store.vault)
        with suppress(AuditUnavailable, TimeoutError):
            if account is not None:
                async with asyncio.timeout(_ACCOUNT_WAIT_S):
                    await profiles.change(portal_id, lambda profile: replace(profile, account=account))
                    await publish(self.redis, await profiles.read_all())
                return
        log.warning("account_unknown", portal_id=portal_id)


async def _once_available(call: Callable[[], Awaitable[_T]], deadline: float) -> _T:
    """Return the result of a call of the store, which may be repeated; wait until `deadline` for a store that restarts.

    A store that hangs is left at `deadline` too: its own limits are longer than a person waits.
    """
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                with suppress(AuditUnavailable):
                    return await call()
                await asyncio.sleep(_STORE_RETRY_S)
    except TimeoutError:
        raise AuditUnavailable from None
