"""ingest.failure_limit and ingest.refusal_log: who may knock, and what becomes of those who knock in vain."""

from ipaddress import ip_network

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from structlog.testing import capture_logs

from ingest.failure_limit import FailureLimit
from ingest.refusal_log import RefusalLog
from ingest.server import request_wrapper as surroundings
from spokes.audit.records import Action
from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import check_sender
from spokes.core.settings import Settings
from tests.support.deployment import Sign, WebProcessServer
from tests.support.events import batch, event, recorded

HUBSPOT = "HubSpot Connect 2.0 (http://dev.hubspot.com/)"


def knock(headers: dict[str, str], *, proxies: int = 0, networks: tuple[str, ...] = (), peer: str = "10.0.0.9") -> str:
    return check_sender(headers, peer, proxies=proxies, networks=[ip_network(text) for text in networks])


def test_without_a_proxy_forwarded_headers_are_not_believed() -> None:
    assert knock({"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http"}) == "10.0.0.9"


def test_behind_a_proxy_the_right_most_hop_counts() -> None:
    headers = {"X-Forwarded-For": "6.6.6.6, 1.2.3.4", "X-Forwarded-Proto": "https"}
    assert knock(headers, proxies=1) == "1.2.3.4"


def test_plain_http_is_refused_behind_a_proxy() -> None:
    with pytest.raises(RejectedRequest) as refused:
        knock({"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http"}, proxies=1)
    assert refused.value.reason is Refusal.NOT_HTTPS


@pytest.mark.parametrize(
    ("peer", "may"), [("10.0.0.9", True), ("::ffff:10.0.0.9", True), ("11.0.0.1", False), ("", False)]
)
def test_allow_list_of_addresses(peer: str, may: bool) -> None:
    if may:
        assert knock({}, networks=("10.0.0.0/8", "2001:db8::/32"), peer=peer) == peer
    else:
        with pytest.raises(RejectedRequest):
            knock({}, networks=("10.0.0.0/8", "2001:db8::/32"), peer=peer)


def test_address_that_fails_too_often_is_limited_until_the_minute_ends() -> None:
    limit = FailureLimit(3)
    assert [limit.record_failure("a", 60.0) for _ in range(4)] == [False, False, False, True]
    assert limit.record_failure("a", 120.0) is False


def test_addresses_are_counted_apart() -> None:
    limit = FailureLimit(1)
    limit.record_failure("a", 60.0)
    assert limit.record_failure("b", 60.0) is False


def test_flood_from_ever_new_addresses_keeps_memory_bounded() -> None:
    limit = FailureLimit(1)
    for number in range(20_000):
        limit.record_failure(str(number), 60.0)
    assert len(limit.drain()) <= 10_001


async def test_processes_share_what_they_count(redis: Redis) -> None:
    limits = [FailureLimit(3), FailureLimit(3)]
    doors = [RefusalLog(redis, limit, b"key") for limit in limits]
    for door in doors:
        for _ in range(2):
            door.record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", "curl")
        await door._flush()
    assert doors[1].record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", "curl") is Refusal.TOO_MANY_FAILURES


async def test_addresses_are_not_kept_in_clear(redis: Redis) -> None:
    door = RefusalLog(redis, FailureLimit(3), b"key")
    door.record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", "curl")
    await door._flush()
    assert not [name async for name in redis.scan_iter("*1.2.3.4*")]


async def test_thousand_forgeries_leave_one_record(redis: Redis) -> None:
    door = RefusalLog(redis, FailureLimit(10_000), b"key")
    for _ in range(1000):
        door.record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", "curl")
    await door.write_records()
    (record,) = await recorded(redis)
    assert (record.action, record.detail) == (Action.REQUESTS_REFUSED, {"reasons": {"signature_mismatch": 1000}})


async def test_failing_requests_of_hubspot_are_told_once_a_minute_by_all_processes(redis: Redis) -> None:
    doors = [RefusalLog(redis, FailureLimit(10_000), b"key") for _ in range(2)]
    with capture_logs() as lines:
        for door in [*doors, *doors]:
            for _ in range(50):
                door.record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", HUBSPOT)
            await door.write_records()
        await redis.delete("spokes:hubspot_refused")  # as it goes by itself after a minute
        await doors[1].write_records()
    told = [line["reasons"] for line in lines if line["event"] == "hubspot_requests_refused"]
    assert told == [{"signature_mismatch": 50}, {"signature_mismatch": 100}]
    assert all(line["security"] is True for line in lines if line["event"] == "requests_refused")


async def test_refused_requests_do_not_fill_the_log(
    settings: Settings, redis: Redis, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "_REFUSED_LINES", 3)
    body = batch(event(1))
    with capture_logs() as lines:
        async with TestClient(WebProcessServer(settings)) as client:
            for headers in [{}] * 10 + [sign(body)]:
                async with client.post("/webhooks/hubspot", data=body, headers=headers) as answer:
                    await answer.read()
    assert [line["status"] for line in lines if line["event"] == "request"] == [401, 401, 401, 202]
