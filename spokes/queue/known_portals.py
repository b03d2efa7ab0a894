"""The portals that this deployment works for, so that an operator's typing error in a portal's id is refused."""

from typing import Final

from redis.asyncio import Redis

from spokes.core.errors import UnknownPortal
from spokes.core.redis import keys

_MAX_NAMED: Final = 20  # portals in a sentence


async def known_portals(redis: Redis) -> set[int]:
    """Return the portals that workers have credentials for, or that have events or quarantined contents here."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.zrange(keys.CREDENTIAL_PORTALS, 0, -1)
        pipeline.zrange(keys.BUDGET_PORTALS, 0, -1)
        pipeline.smembers(keys.PORTALS)
        pipeline.smembers(keys.QUARANTINE_PORTALS)
        members = await pipeline.execute()
    return {int(member) for stored in members for member in stored if member.isdigit()}


async def check_portal(redis: Redis, portal_id: int) -> None:
    """Check that the portal is known. Before the first worker has run, every id passes: none is known to be wrong.

    Raises:
        UnknownPortal: it is not; the sentence names the known portals.
    """
    portals = await known_portals(redis)
    if portals and portal_id not in portals and not await redis.exists(keys.parked_deliveries(portal_id)):
        names = ", ".join(map(str, sorted(portals)[:_MAX_NAMED])) + (", ..." if len(portals) > _MAX_NAMED else "")
        raise UnknownPortal(f"Portal {portal_id} is unknown here, so nothing was done. Known portals: {names}.")
