"""ingest.refusal_log: what refused requests leave in Redis, audit and log."""

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from structlog.testing import capture_logs

from ingest.failure_limit import FailureLimit
from ingest.refusal_log import RefusalLog
from ingest.server import request_wrapper
from spokes.audit.records import Action
from spokes.core.refusals import Refusal
from tests.ingest.conftest import PATH
from tests.support.deployment import Sign
from tests.support.events import batch, event, recorded

HUBSPOT = "HubSpot Connect 2.0 (http://dev.hubspot.com/)"


async def test_processes_share_their_counts(redis: Redis) -> None:
    refusal_logs = [RefusalLog(redis, FailureLimit(3), b"key") for _ in range(2)]
    for refusal_log in refusal_logs:
        for _ in range(2):
            refusal_log.record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", "curl")
        await refusal_log._share_counts()
    reason = refusal_logs[1].record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", "curl")
    assert reason is Refusal.TOO_MANY_FAILURES


async def test_redis_holds_no_address_in_clear(redis: Redis) -> None:
    refusal_log = RefusalLog(redis, FailureLimit(3), b"key")
    refusal_log.record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", "curl")
    await refusal_log._share_counts()
    assert not [name async for name in redis.scan_iter("*1.2.3.4*")]


async def test_thousand_forgeries_leave_one_record(redis: Redis) -> None:
    refusal_log = RefusalLog(redis, FailureLimit(10_000), b"key")
    for _ in range(1000):
        refusal_log.record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", "curl")
    await refusal_log.write_records()
    (record,) = await recorded(redis)
    assert (record.action, record.detail) == (Action.REQUESTS_REFUSED, {"reasons": {"signature_mismatch": 1000}})


async def test_refused_requests_of_hubspot_are_logged_once_a_minute_by_all_processes(redis: Redis) -> None:
    refusal_logs = [RefusalLog(redis, FailureLimit(10_000), b"key") for _ in range(2)]
    with capture_logs() as lines:
        for refusal_log in [*refusal_logs, *refusal_logs]:
            for _ in range(50):
                refusal_log.record(Refusal.SIGNATURE_MISMATCH, "1.2.3.4", HUBSPOT)
            await refusal_log.write_records()
        await redis.delete("spokes:hubspot_refused")  # it expires after a minute
        await refusal_logs[1].write_records()
    reasons = [line["reasons"] for line in lines if line["event"] == "hubspot_requests_refused"]
    assert reasons == [{"signature_mismatch": 50}, {"signature_mismatch": 100}]
    assert all(line["security"] is True for line in lines if line["event"] == "requests_refused")


@pytest.fixture
def three_logged_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_wrapper, "_MAX_LOGGED_REFUSALS", 3)


async def test_refused_requests_do_not_fill_the_log(
    three_logged_refusals: None, client: TestClient, sign: Sign
) -> None:
    body = batch(event(1))
    with capture_logs() as lines:
        for headers in [{}] * 10 + [sign(body)]:
            async with client.post(PATH, data=body, headers=headers) as response:
                await response.read()
    assert [line["status"] for line in lines if line["event"] == "request"] == [401, 401, 401, 202]
