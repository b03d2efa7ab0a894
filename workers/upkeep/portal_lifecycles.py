"""Apply installs and uninstalls: those that HubSpot's journal reported, and installs by customers' browsers.

A portal that removed the app at HubSpot is uninstalled here at once, rather than at the next refused refresh.
An install that the journal reports brings no tokens: those come with the customer's browser. The install by the browser
is noted too: the portal's dead letters for want of credentials are replayed after it.
"""

from typing import Final

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append_now
from spokes.core.errors import NoCredentials
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.intake.portal_events import PORTAL_UNINSTALLED, queue_portal_event
from spokes.portals.lifecycles import Lifecycle, noted_lifecycles, read_lifecycle
from spokes.portals.pending_tokens import PendingTokenStore
from spokes.portals.store import PortalState, PortalStore
from spokes.portals.token_alerts import end_token_alerts
from spokes.queue.dead_letters import DeadLetters

APPLY_EVERY_S: Final = 10
_INSTALLED: Final = "portal_installed"  # the reason of a replay
_REASON: Final = "uninstalled_at_hubspot"
log = structlog.get_logger()


async def apply_lifecycles(settings: Settings, redis: Redis, engine: AsyncEngine) -> None:
    """Apply those that wait, the oldest first.

    Raises:
        AuditUnavailable: the store does not answer; they wait.
        QueueUnavailable: Redis did not confirm; they wait.
        RedisError, OSError: Redis does not answer.
    """
    if not settings.hubspot_client_id:
        return
    store = PortalStore(engine, Vault.from_settings(settings))
    noted = noted_lifecycles(redis)
    while waiting := await noted.oldest():
        for payload in waiting:
            lifecycle = read_lifecycle(payload)
            if lifecycle is None:
                log.warning("lifecycle_unreadable", bytes=len(payload))
            elif lifecycle.is_install:
                await _replay(lifecycle.portal_id, store, redis)
            else:
                await _uninstall(lifecycle, settings, store, redis)
        await noted.remove(len(waiting))


async def _replay(portal_id: int, store: PortalStore, redis: Redis) -> None:
    """Replay what became a dead letter for want of credentials, if the portal has them now."""
    portal = await store.get(portal_id)
    if portal is None or portal.state is not PortalState.INSTALLED:
        log.info("portal_installed_at_hubspot", portal_id=portal_id)
        return
    letters = DeadLetters(redis)
    waiting = [letter async for letter in letters.list(portal_id, reason=NoCredentials.reason)]
    if waiting:
        count = await letters.replay(waiting, actor="spokes", reason=_INSTALLED)
        log.info("dead_letters_replayed", portal_id=portal_id, count=count)


async def _uninstall(lifecycle: Lifecycle, settings: Settings, store: PortalStore, redis: Redis) -> None:
    """Mark a portal as uninstalled, unless it was installed again since."""
    portal_id = lifecycle.portal_id
    while True:
        portal = await store.get(portal_id)
        if portal is None or portal.state is PortalState.UNINSTALLED or portal.installed_at > lifecycle.occurred_at:
            return
        at = portal.uninstalled_at(lifecycle.occurred_at)
        await queue_portal_event(PORTAL_UNINSTALLED, portal_id, occurred_at=at, settings=settings, redis=redis)
        if await store.mark(portal_id, PortalState.UNINSTALLED, _REASON, generation=portal.generation):
            break  # otherwise a worker has refreshed its tokens between the two calls
    await store.destroy_tokens(portal_id)
    await PendingTokenStore(redis, store.vault).delete(portal_id)
    detail = {"state": portal.state.value}
    await append_now(
        redis, AuditRecord(action=Action.PORTAL_UNINSTALLED, portal_id=portal_id, reason=_REASON, detail=detail)
    )
    await end_token_alerts(redis, portal_id)
