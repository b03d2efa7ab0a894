"""Queue `portal.installed` and `portal.uninstalled`: events of our own, which no request of HubSpot's brings.

They are admitted before the portal's state changes, so that a crash loses none; a repeated step may queue an install
again. The uninstall of a portal runs without credentials: the app has none there any more.
"""

import asyncio
from typing import Final

from redis.asyncio import Redis

from spokes.core.settings import Settings
from spokes.intake.event_source import EventSource
from spokes.routing import load_router

PORTAL_INSTALLED: Final = "portal.installed"
PORTAL_UNINSTALLED: Final = "portal.uninstalled"


async def queue_portal_event(
    event_type: str, portal_id: int, *, occurred_at: int, settings: Settings, redis: Redis
) -> bool:
    """Queue an event for the handlers that register for it; return whether there are any.

    Args:
        event_type: PORTAL_INSTALLED or PORTAL_UNINSTALLED.
        portal_id: of the portal.
        occurred_at: epoch ms; the same time makes the same event, which is queued once.
        settings: of the deployment.
        redis: stays the caller's to close.

    Raises:
        ConfigurationError: the handlers cannot be loaded.
        QueueUnavailable: Redis did not confirm.
    """
    router = await asyncio.to_thread(load_router, settings.handlers)
    if event_type not in router.registrations:
        return False
    source = EventSource.from_settings("push", redis, settings, router.registrations)
    try:
        element = {"subscriptionType": event_type, "portalId": portal_id, "occurredAt": occurred_at}
        await source.admit([element])
    finally:
        await source.close()
    return True
