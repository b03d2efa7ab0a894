"""End the backoffs of a portal, so that its next call reaches HubSpot. The fields are those of rate_budget.lua."""

from itertools import product
from typing import Final

from redis.asyncio import Redis

from spokes.core.redis.key_names import budget_keys
from spokes.crm.transport.rate_budget import CALL_KINDS

_DAY_FIELDS: Final = ("day:left", "day:limit", "day:until")  # HubSpot reports them again with its next answer
_FIELDS: Final = (*map(":".join, product(("until", "why"), (*CALL_KINDS, "portal"))), *_DAY_FIELDS)


async def end_backoffs(redis: Redis, portal_id: int) -> None:
    """End every backoff of the portal in all processes, and forget how many calls are left of its day."""
    await redis.hdel(budget_keys.rate_budget(portal_id), *_FIELDS)  # type: ignore[misc]  # redis-py types one class for sync and async
