"""ingest.server.views over real HTTP, on a real Valkey."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import JOB_QUEUE
from spokes.core.settings import Settings
from tests.support.deployment import PUBLIC_URL, Sign, WebProcessServer
from tests.support.events import batch, event, recorded

PATH = "/webhooks/hubspot"
Post = Callable[..., Awaitable[tuple[int, bytes]]]


@pytest.fixture
async def client(settings: Settings, redis: Redis) -> AsyncIterator[TestClient]:
    async with TestClient(WebProcessServer(settings)) as client:
        yield client


@pytest.fixture
def post(client: TestClient, sign: Sign) -> Post:
    async def send(body: bytes, *, headers: dict[str, str] | None = None, path: str = PATH) -> tuple[int, bytes]:
        async with client.post(
            path, data=io.BytesIO(body), headers=sign(body) if headers is None else headers
        ) as answer:
            return answer.status, await answer.read()

    return send


async def test_signed_delivery_is_taken(post: Post) -> None:
    status, _ = await post(batch(event(1), event(2)))
    assert status == 202


async def test_answer_counts_the_fates(post: Post) -> None:
    _, body = await post(batch(event(1), event(1), event(2, subscriptionType="contact.newsletter"), 42))
    assert b'"admitted":1,"duplicate":1,"ignored":1,"quarantined":1' in body


async def test_delivery_is_queued_before_it_is_acknowledged(post: Post, redis: Redis) -> None:
    await post(batch(event(1)))
    assert await redis.zcard(JOB_QUEUE) == 1


async def test_empty_array_is_taken(post: Post) -> None:
    assert (await post(b"[]"))[0] == 202


@pytest.mark.parametrize(
    ("age_ms", "status"), [(0, 202), (299_000, 202), (301_000, 401), (-299_000, 202), (-302_000, 401)]
)
async def test_time_window(post: Post, sign: Sign, age_ms: int, status: int) -> None:
    body = batch(event(1))
    assert (await post(body, headers=sign(body, at_ms=clock.now_ms() - age_ms)))[0] == status


async def test_forged_request_is_refused_with_an_empty_body(post: Post, sign: Sign, redis: Redis) -> None:
    answer = await post(batch(event(1)), headers=sign(b"[]"))
    assert answer == (401, b"")
    assert await redis.zcard(JOB_QUEUE) == 0


async def test_unsigned_request_is_refused(post: Post) -> None:
    assert (await post(batch(event(1)), headers={}))[0] == 401


async def test_v1_alone_is_refused(post: Post, sign: Sign) -> None:
    body = batch(event(1))
    headers = {name: value for name, value in sign(body).items() if "v3" not in name.lower()}
    assert (await post(body, headers=headers))[0] == 401


async def test_signature_over_the_query_is_checked_as_called(post: Post, sign: Sign) -> None:
    path = f"{PATH}?tenant=a%2Fb&x=%20y"
    signed = sign(b"[]", uri=f"{PUBLIC_URL}{PATH}?tenant=a/b&x=%20y")
    assert (await post(b"[]", headers=signed, path=path))[0] == 202


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"{", 400), (b"7", 400), (b"[" * 5000, 400), (b"\xff\xfe", 400)]
)
async def test_signed_nonsense_is_a_bad_request(post: Post, body: bytes, status: int) -> None:
    assert (await post(body))[0] == status


async def test_other_content_type_is_refused(post: Post, sign: Sign) -> None:
    body = batch(event(1))
    assert (await post(body, headers={**sign(body), "Content-Type": "text/xml"}))[0] == 415


async def test_worst_case_batch_is_taken(post: Post) -> None:
    elements = [
        event(n, subscriptionType="contact.propertyChange", propertyName="phone", propertyValue="x" * 65_536)
        for n in range(100)
    ]
    assert (await post(batch(*elements)))[0] == 202


async def test_body_over_the_limit_is_refused(post: Post) -> None:
    assert (await post(b"[" + b" " * (10 * 1024 * 1024) + b"]"))[0] == 413


async def test_get_is_not_for_the_receiver(client: TestClient) -> None:
    async with client.get(PATH) as answer:
        assert answer.status == 405


async def test_every_answer_carries_an_id(client: TestClient) -> None:
    async with client.get("/nowhere") as answer:
        assert (answer.status, len(answer.headers["X-Request-Id"])) == (404, 16)


async def test_several_portals_in_one_request_become_a_delivery_each(post: Post, redis: Redis) -> None:
    await post(batch(event(1, portalId=1), event(2, portalId=2)))
    assert await redis.zcard(JOB_QUEUE) == 2


async def test_process_lives_and_is_ready(client: TestClient) -> None:
    for path in ("/healthz", "/readyz"):
        async with client.get(path) as answer:
            assert answer.status == 200


async def test_metrics_count_requests_by_answer(client: TestClient, post: Post) -> None:
    await post(batch(event(1)))
    async with client.get("/metrics") as answer:
        assert 'spokes_requests_total{reason="",status="202"}' in await answer.text()


async def test_without_redis_hubspot_is_asked_to_keep_the_events(environ: dict[str, str], sign: Sign) -> None:
    settings = Settings.from_env({**environ, "REDIS_URL": "redis://127.0.0.1:1/0"})
    async with TestClient(WebProcessServer(settings)) as client:
        body = batch(event(1))
        async with client.post(PATH, data=body, headers=sign(body)) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        async with client.get("/readyz") as answer:
            assert answer.status == 503


async def test_events_of_other_portals_are_set_aside_and_acknowledged(
    environ: dict[str, str], sign: Sign, redis: Redis
) -> None:
    settings = Settings.from_env({**environ, "PORTAL_IDS": "1,2"})
    async with TestClient(WebProcessServer(settings)) as client:
        body = batch(event(1))
        async with client.post(PATH, data=body, headers=sign(body)) as answer:
            assert (answer.status, (await answer.json())["quarantined"]) == (202, 1)
    assert await redis.zcard(JOB_QUEUE) == 0


async def test_malformed_element_leaves_a_record_with_its_id(post: Post, redis: Redis) -> None:
    await post(batch(event(1), event(2, eventId=77, occurredAt="yesterday")))
    found = await recorded(redis)
    assert [(one.outcome, one.reason, one.event_id) for one in found if one.outcome] == [
        ("quarantined", "occurred_at", 77)
    ]
