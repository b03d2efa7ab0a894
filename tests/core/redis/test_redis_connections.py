"""spokes.core.redis.connections: cancellations neither get lost nor mix up responses."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected

from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings

STEPS = range(1, 40)  # of the event loop; connecting and the handshake take a dozen


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Redis]:
    """Our client, not connected yet."""
    client = redis_client(settings, max_connections=1)
    yield client
    await client.aclose()


@pytest.mark.parametrize("steps", STEPS)
async def test_first_call_can_be_cancelled_at_any_step(redis: Redis, client: Redis, steps: int) -> None:
    call = asyncio.ensure_future(client.ping())
    for _ in range(steps):
        await asyncio.sleep(0)
    cancelled = call.cancel()
    await asyncio.wait({call})
    assert call.cancelled() == cancelled


@pytest.mark.parametrize("steps", STEPS)
async def test_responses_match_calls_after_a_cancelled_first_call(redis: Redis, client: Redis, steps: int) -> None:
    call = asyncio.ensure_future(client.echo("cancelled"))
    for _ in range(steps):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    assert await client.echo("mine") == b"mine"


async def test_subscriber_can_be_cancelled_at_any_step(redis: Redis, client: Redis) -> None:
    for steps in STEPS:

        async def listen() -> None:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe("channel")
                while True:
                    await pubsub.get_message(timeout=60)

        task = asyncio.ensure_future(listen())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=40)
        assert done == {task}, steps


async def test_transport_closed_by_uvloop_is_a_lost_connection(
    redis: Redis, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    connection = await client.connection_pool.get_connection()
    monkeypatch.setattr(connection._writer, "writelines", closed)
    with pytest.raises(Disconnected):
        await connection.send_command("PING")
    await client.connection_pool.release(connection)
