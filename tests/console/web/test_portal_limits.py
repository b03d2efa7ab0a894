"""An operator of one portal sees nothing of another on any page and API route."""

import re

from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.web.app_keys import SETTINGS
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.support.console_visitor import Visitor, archive
from tests.support.events import record

OTHER = 987654321
PARAMETERS = {"portal": str(OTHER), "key": "aa", "name": "console.css", "id": "7-1-1", "word": "w"}


async def test_no_get_route_shows_another_portal(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine, migrated_store: None
) -> None:
    await PortalPauses(redis).operator_pause(OTHER, actor="ada", reason="maintenance of portal b", address="")
    await archive(redis, sqlite_engine, record(portal_id=OTHER))
    everything = await (await Visitor.signed_in(client, *Role)).get("/console")
    assert str(OTHER) in everything[1]
    visitor = await Visitor.signed_in(client, *Role, portals=[7])
    token = ApiTokens.from_settings(client.server.app[SETTINGS]).mint("robot", list(Role), [7]).token
    paths = {
        re.sub(r"\{(\w+)\}", lambda match: PARAMETERS[match[1]], route.resource.canonical)
        for route in client.server.app.router.routes()
        if route.method == "GET" and route.resource is not None and not route.resource.canonical.endswith("/live")
    }
    assert len(paths) > 20
    for path in sorted(paths):
        _, page = await visitor.get(path)
        async with client.get(path, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False) as response:
            answer = await response.text()
        shown = (page + answer).replace(path, "")
        assert str(OTHER) not in shown, path
        assert "maintenance of portal b" not in shown, path
