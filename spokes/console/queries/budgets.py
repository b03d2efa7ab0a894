"""Use of HubSpot's rate limits per portal. Limits that HubSpot reports take precedence over configured ones."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import read_items
from spokes.console.queries.portal_scope import Portals, can_see
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.crm.transport.rate_budget import LimitState, RateBudget

_IN_USE_S: Final = 120


@dataclass(frozen=True, slots=True)
class PortalBudget:
    """The limits of a portal by kind of call: `calls` and `associations` in 10 s, `search` in 1 s."""

    portal_id: int
    kinds: Mapping[str, LimitState]


def budget_of(settings: Settings, redis: Redis) -> RateBudget:
    """Return the budget of all portals, to be read."""
    return RateBudget(
        redis, limit=settings.hubspot_rate_limit, search_limit=settings.hubspot_search_limit,
        association_limit=settings.hubspot_association_limit,
    )  # fmt: skip


async def portal_budgets(settings: Settings, redis: Redis, portals: Portals) -> tuple[PortalBudget, ...]:
    """Return the budgets of the portals in use, fullest first.

    Raises:
        RedisError, OSError, CRMUnavailable: Redis does not answer.
    """
    budget = budget_of(settings, redis)
    in_use = await redis.zrangebyscore(keys.BUDGET_PORTALS, time.time() - _IN_USE_S, "+inf")
    named = set(await read_items(redis, "portal", in_use, int)) | set(settings.portal_ids)
    states = [
        PortalBudget(portal_id, {str(kind): state for kind, state in (await budget.state(portal_id)).items()})
        for portal_id in sorted(named)
        if can_see(portals, portal_id)
    ]
    return tuple(sorted(states, key=_remaining_share))


def _remaining_share(portal: PortalBudget) -> float:
    return min(1 - state.used / state.limit for state in portal.kinds.values())
