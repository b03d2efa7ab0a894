"""A process that gets the access tokens of portals at once, and prints a line for each: portal, then the outcome.

Usage: python tests/support/processes/token_process.py <redis url> <database address> <api url> <client secret> <key>
<portal>...

It prints `ready`, then waits for a line on stdin.
"""

import asyncio
import sys

import structlog
from pydantic import SecretStr
from redis.asyncio import Redis

from spokes.audit.sql.engine import open_engine
from spokes.core.errors import SpokesError
from spokes.core.vault import Vault
from spokes.crm.transport.client import HubSpotClient
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.store import PortalStore
from spokes.portals.token_service import TokenService
from spokes.simulator.config import OAuthConfig


async def main() -> None:
    """Print `ok` for each portal whose token HubSpot accepts, else the reason."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    redis_url, database, api_url, secret, key, *portals = sys.argv[1:]
    redis, engine = Redis.from_url(redis_url), open_engine(database)
    transport = HubSpotClient(api_url=api_url, token="", timeout_s=10.0)
    oauth = OAuthClient(client_id=OAuthConfig().client_id, client_secret=SecretStr(secret), api_url=api_url)
    service = TokenService(PortalStore(engine, Vault([key])), oauth, redis, transport.with_token, refreshes_per_s=100)
    await service.directory.refresh()
    await redis.ping()
    print("ready", flush=True)  # noqa: T201 - the parent reads it
    await asyncio.to_thread(sys.stdin.readline)

    async def outcome(portal_id: int) -> str:
        try:
            client = await service.client(portal_id)
            answer = await client.call("GET", "/account-info/2026-09/details")
        except SpokesError as error:
            return error.reason
        return "ok" if answer.body["portalId"] == portal_id else "of_another_portal"

    outcomes = await asyncio.gather(*(outcome(int(portal)) for portal in portals))
    for portal, text in zip(portals, outcomes, strict=True):
        print(portal, text, flush=True)  # noqa: T201 - as above
    await service.close()
    await transport.close()
    await engine.dispose()
    await redis.aclose()


asyncio.run(main())
