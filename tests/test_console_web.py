"""console.web over real HTTP, on a real Valkey: who may do what, and what surrounds every answer."""

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from console.web.app import create_app
from console.web.policy import policy_of
from core.settings import Settings

CONSOLE_KEY = "a-key-of-at-least-thirty-two-characters"


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis) -> AsyncIterator[TestClient]:
    settings = Settings.from_env({**environ, "CONSOLE_KEY": CONSOLE_KEY})
    async with TestClient(TestServer(create_app(settings))) as client:
        yield client


def test_every_route_has_a_policy(settings: Settings) -> None:
    routes = create_app(settings).router.routes()
    assert [route for route in routes if policy_of(route.handler) is None] == []


async def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    async with client.get("/console/nowhere") as answer:
        assert answer.status == 404
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
