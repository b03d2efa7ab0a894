"""The parts of a reconciliation in one deployment, and which events each portal's handlers wait for."""

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.backfill.received_events import ReceivedEvents
from spokes.backfill.reconciliation import Reconciliation
from spokes.core.masking import derive_key
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.gaps.ledger import GapLedger
from spokes.intake.allow_list import AllowList
from spokes.intake.event_keys import EventKeys
from spokes.intake.portal_restrictions import PortalAllowLists
from spokes.portals.published_profiles import PublishedProfiles
from spokes.routing import Router


def reconciliation(
    settings: Settings, redis: Redis, engine: AsyncEngine, crm: CRM, actor: str = "spokes"
) -> Reconciliation:
    """Return the reconciliation of a deployment; the caller closes what it uses."""
    keys = EventKeys(derive_key(load_master_key(settings), "event keys"))
    ledger = GapLedger.from_settings(settings, engine)
    return Reconciliation(crm, engine, ledger, ReceivedEvents(redis, engine, keys), actor)


async def allowed_events(settings: Settings, redis: Redis, router: Router) -> AllowList:
    """Return what is queued, with the restrictions of single portals.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    allow_list = AllowList(router.registrations, settings.allowed_events)
    await PortalAllowLists(allow_list, router, settings.allowed_events, PublishedProfiles(redis)).refresh()
    return allow_list
