"""The portals that this deployment works for, so that an operator's typing error in a portal's id is refused."""

from redis.asyncio import Redis

from spokes.core.errors import UnknownPortal
from spokes.core.redis import keys


async def check_portal(redis: Redis, portal_id: int) -> None:
    """Check that the portal is known. Before the first worker has run, every id passes: none can be told wrong.

    Raises:
        UnknownPortal: it is not; the sentence names the known portals.
    """
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.zrange(keys.CREDENTIAL_PORTALS, 0, -1)
        pipeline.zrange(keys.BUDGET_PORTALS, 0, -1)
        pipeline.smembers(keys.PORTALS)
        pipeline.smembers(keys.QUARANTINE_PORTALS)
        pipeline.exists(keys.parked_deliveries(portal_id))
        *members, is_parked = await pipeline.execute()
    portals = {int(member) for stored in members for member in stored if member.isdigit()}
    if portals and portal_id not in portals and not is_parked:
        names = ", ".join(map(str, sorted(portals)))
        raise UnknownPortal(f"Portal {portal_id} is unknown here, so nothing was done. Known portals: {names}.")
