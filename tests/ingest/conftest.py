"""Fixtures of the tests of the web process."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.core.settings import Settings
from tests.support.deployment import Sign, WebProcessServer

PATH = "/webhooks/hubspot"

Post = Callable[..., Awaitable[tuple[int, bytes]]]


@pytest.fixture
async def client(settings: Settings, redis: Redis) -> AsyncIterator[TestClient]:
    """A client of a web process with an empty Redis."""
    async with TestClient(WebProcessServer(settings)) as client:
        yield client


@pytest.fixture
def post(client: TestClient, sign: Sign) -> Post:
    """Post a body to the receiver, signed unless headers are passed; return status and body of the response."""

    async def send(body: bytes, *, headers: dict[str, str] | None = None, path: str = PATH) -> tuple[int, bytes]:
        async with client.post(
            path, data=io.BytesIO(body), headers=sign(body) if headers is None else headers
        ) as response:
            return response.status, await response.read()

    return send
