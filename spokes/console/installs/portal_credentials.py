"""The CRM of a command that works for any portal: with the access token, and the tokens of portals that installed."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.installs.oauth_parts import oauth_client, portal_store
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.portals.directory import PortalDirectory
from spokes.portals.token_service import TokenService

# More than a worker has: a command reads many portals side by side, and HubSpot may take a second to answer.
_CONCURRENT_CALLS: Final = 128


@asynccontextmanager
async def open_crm(settings: Settings, redis: Redis, engine: AsyncEngine) -> AsyncIterator[tuple[CRM, Sequence[int]]]:
    """Yield the CRM and the portals it has credentials for, and close it at the end.

    Raises:
        NotAuthorized: HubSpot does not know the access token.
        AuditUnavailable: the store of installed portals does not answer.
    """
    portals: set[int] = set()
    installed = None
    if settings.hubspot_client_id:
        store = portal_store(settings, engine)
        directory = PortalDirectory(store)
        await directory.refresh()
        portals |= directory.installed
        installed = lambda client: TokenService(  # noqa: E731 - called once, by CRM.open
            store, oauth_client(settings), redis, client.with_token,
            refreshes_per_s=settings.token_refreshes_per_s, directory=directory,
        )  # fmt: skip
    crm = await CRM.open(settings, redis, installed, concurrency=_CONCURRENT_CALLS)
    try:
        if settings.hubspot_access_token.get_secret_value() and (info := await crm.check_token()) is not None:
            portals.add(info.hub_id)
        served = portals & set(settings.portal_ids) if settings.portal_ids else portals
        yield crm, sorted(served)
    finally:
        await crm.close()
