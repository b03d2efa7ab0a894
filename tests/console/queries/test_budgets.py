"""Rate budgets per portal."""

from redis.asyncio import Redis

from spokes.console.queries.budgets import portal_budgets
from spokes.core.settings import Settings
from tests.console.queries.helpers import OTHER_PORTAL, PORTAL


async def test_budget_is_per_portal(redis: Redis, environ: dict[str, str]) -> None:
    settings = Settings.from_env({**environ, "PORTAL_IDS": f"{PORTAL},{OTHER_PORTAL}", "HUBSPOT_RATE_LIMIT": "7"})
    [own] = await portal_budgets(settings, redis, frozenset({PORTAL}))
    assert (own.portal_id, own.kinds["calls"].limit, own.kinds["calls"].used) == (PORTAL, 7, 0)
