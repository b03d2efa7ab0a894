"""Notice that customers removed the app, also without HubSpot's journal: by a refresh token that HubSpot refuses.

Handlers are told of a refused token as of any uninstall: HubSpot says nothing else to an app. Tokens are refreshed with
the calls of a portal, and a portal that removed the app sends no events that would need one. So those of a portal that
has been without calls for a day are refreshed here.
"""

import asyncio
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.core import clock
from spokes.core.errors import CRMError
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.crm.transport.credentials import Credentials
from spokes.intake.portal_events import PORTAL_UNINSTALLED, queue_portal_event
from spokes.portals.store import PortalState, PortalStore
from spokes.routing import load_router

CHECK_EVERY_S: Final = 60
_CHECKED_AT_ONCE: Final = 15  # portals; over a day more than 20,000
_IDLE_MS: Final = 24 * 3_600_000  # since the access token of a portal expired
_SETTLED_MS: Final = 30_000  # by then, a refresh that was in flight during the refusal has stored its tokens
_HOUR_MS: Final = 3_600_000


class RevokedPortals:
    """Queues `portal.uninstalled` for portals whose refresh token HubSpot refuses, once for each refusal."""

    def __init__(self, settings: Settings, redis: Redis, engine: AsyncEngine) -> None:
        self._settings = settings
        self._redis = redis
        self._store = PortalStore(engine, Vault.from_settings(settings))
        self._queued: frozenset[tuple[int, int]] = frozenset()  # portals and times; dedupe marks hold other processes

    async def queue_events(self) -> None:
        """Queue the events of refusals that are new.

        Raises:
            AuditUnavailable: the store does not answer.
            QueueUnavailable: Redis did not confirm.
        """
        router = await asyncio.to_thread(load_router, self._settings.handlers)
        if not self._settings.hubspot_client_id or PORTAL_UNINSTALLED not in router.registrations:
            return
        now = clock.now_ms()
        revoked = await self._store.in_state_since(PortalState.NEEDS_REINSTALL, now - _SETTLED_MS)
        since = now - self._settings.dedupe_hours * _HOUR_MS // 2  # later, an event has its dedupe mark no more
        fresh = (portal for portal in revoked if portal.changed_at > since and portal.is_removed_by_refusal)
        due = {portal.portal_id: portal.changed_at for portal in fresh}
        for portal_id, at in sorted(due.items() - self._queued):
            await queue_portal_event(
                PORTAL_UNINSTALLED, portal_id, occurred_at=at, settings=self._settings, redis=self._redis
            )
        self._queued = frozenset(due.items())


async def check_idle_portals(settings: Settings, engine: AsyncEngine, credentials: Credentials) -> None:
    """Refresh the tokens of some portals that have been without calls for a day; a refusal marks its portal.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    store = PortalStore(engine, Vault.from_settings(settings))
    idle = await store.idle_since(clock.now_ms() - _IDLE_MS, limit=_CHECKED_AT_ONCE)
    await asyncio.gather(*(_check(portal_id, credentials) for portal_id in idle if portal_id in credentials.portals))


async def _check(portal_id: int, credentials: Credentials) -> None:
    try:
        await credentials.client(portal_id)
    except CRMError:
        return  # the portal is marked, or checked again later
