"""spokes.console.installs.portal_credentials: the CRM of a command that reads many portals side by side."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.console.installs.portal_credentials import open_crm
from spokes.core.settings import Settings
from spokes.crm.transport.paced_client import ApiRequest

CALLS = 40


async def test_forty_calls_of_imports_wait_for_slow_answers_at_the_same_time(
    environ: dict[str, str], redis: Redis
) -> None:
    all_calls = asyncio.Barrier(CALLS)

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/search"):
            async with asyncio.timeout(20):
                await all_calls.wait()  # HubSpot answers none before all are in flight
        return web.json_response({"portalId": 7, "hubId": 7, "userId": 1, "appId": 1, "scopes": [], "results": []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as hubspot:
        limits = {"HUBSPOT_RATE_LIMIT": "1000", "HUBSPOT_SEARCH_LIMIT": "1000"}
        settings = Settings.from_env({**environ, **limits, "HUBSPOT_API_URL": str(hubspot.make_url("/"))})
        engine = open_engine(settings.database_address)
        await schema.upgrade(engine)
        async with open_crm(settings, redis, engine) as (crm, portals):
            assert list(portals) == [7]
            request = ApiRequest("POST", crm.paths.objects("contacts", "search"), body={})
            await asyncio.gather(*(crm.send(7, request, "search", "import") for _ in range(CALLS)))
        await engine.dispose()
