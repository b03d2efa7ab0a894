"""A host that fails: only the events of handlers that declare it wait, and one of them probes it."""

import pytest
from aiohttp import web
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import Delivery, decode
from spokes.core.redis import keys
from spokes.http.hosts import Host
from spokes.queue.held_deliveries import Calls
from spokes.tools import Tools
from tests.workers.harness import PORTAL, Harness
from tests.workers.http.own_system import OwnSystem
from tests.workers.http.test_calls import order, register, run
from workers.delivery.run_delivery import run_delivery
from workers.queue.claimed_job import ClaimedJob


async def pause(harness: Harness, erp: OwnSystem, *, is_due: bool = False) -> Calls:
    """Pause the calls of a host, as after several failures in a row."""
    calls = Calls(PORTAL, erp.url)
    await harness.pauses.calls.pause(calls, "http_unavailable", 0.0 if is_due else 60.0, failed_probes=0)
    return calls


async def run_probe(harness: Harness, calls: Calls) -> None:
    await harness.pauses.calls.refresh()
    name = await harness.redis.get(keys.probe(*calls))
    assert name is not None
    stored = decode(await harness.redis.get(keys.JOB_KEY_PREFIX + name.decode()))["a"][0]
    delivery = Delivery.from_job(stored)
    await run_delivery(ClaimedJob(delivery.id, delivery.to_job(), 1), harness.parts)


async def test_failures_in_a_row_pause_the_host(
    harness: Harness, erp: OwnSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spokes.queue.pauses.call_breaker._FAILURE_WINDOW_S", 0.0)
    register(harness, "orders", lambda tools: order(tools, erp.url), erp.url)
    erp.answers = [web.Response(status=503) for _ in range(9)]
    for number in range(1, 7):
        record = await run(harness, "orders", number)
    assert (record.outcome, record.reason, len(erp.requests)) == ("parked", "calls_paused", 5)
    (pause,) = await harness.pauses.calls.list()
    assert (pause.kind, pause.reason, pause.failed_probes) == (erp.url, "http_unavailable", 0)


async def test_answers_in_between_keep_the_host_running(
    harness: Harness, erp: OwnSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spokes.queue.pauses.call_breaker._FAILURE_WINDOW_S", 0.0)
    register(harness, "orders", lambda tools: order(tools, erp.url), erp.url)
    erp.answers = [web.Response(status=404 if number % 4 == 3 else 503) for number in range(12)]
    for number in range(1, 13):
        await run(harness, "orders", number)
    assert await harness.pauses.calls.list() == []


async def test_only_handlers_that_declare_the_host_wait(
    harness: Harness, redis: Redis, erp: OwnSystem, shop: OwnSystem
) -> None:
    register(harness, "orders", lambda tools: order(tools, erp.url), erp.url)
    register(harness, "shops", lambda tools: order(tools, shop.url), shop.url)
    calls = await pause(harness, erp)
    held = await run(harness, "orders", 1)
    assert (held.outcome, held.reason) == ("parked", "calls_paused")
    assert (await run(harness, "shops", 2)).outcome == "processed"
    assert (await run(harness, "city", 3)).outcome == "processed"
    (delivery_id,) = await redis.zrange(keys.held_deliveries(*calls), 0, -1)
    entries = decode(await redis.get(keys.JOB_KEY_PREFIX + delivery_id.decode()))["a"][0]["events"]
    assert [attempt for _, attempt, _ in entries] == [0]
    assert (len(erp.requests), len(shop.requests)) == (0, 1)


async def test_answered_probe_ends_the_pause_and_a_failed_one_lengthens_it(
    harness: Harness, redis: Redis, erp: OwnSystem
) -> None:
    register(harness, "orders", lambda tools: order(tools, erp.url), erp.url)
    calls = await pause(harness, erp, is_due=True)
    await run(harness, "orders", 1)
    erp.answers = [web.Response(status=502)]
    await run_probe(harness, calls)
    (longer,) = await harness.pauses.calls.list()
    assert (longer.failed_probes, longer.until > clock.now_s()) == (1, True)
    assert await redis.zcard(keys.held_deliveries(*calls)) == 1
    await redis.hset(keys.PAUSED_CALLS, longer.field, longer.to_json().replace(str(longer.until), "0"))  # type: ignore[misc]  # redis-py types one class for sync and async
    erp.answers = [web.Response(status=404)]  # an answer, even if it refuses
    await run_probe(harness, calls)
    assert await harness.pauses.calls.list() == []


async def test_long_retry_after_pauses_the_host_without_an_attempt(harness: Harness, erp: OwnSystem) -> None:
    register(harness, "orders", lambda tools: order(tools, erp.url), erp.url)
    erp.answers = [web.Response(status=429, headers={"Retry-After": "7200"})]
    record = await run(harness, "orders", 1)
    assert (record.outcome, record.reason) == ("parked", "http_rate_limited")
    (pause,) = await harness.pauses.calls.list()
    assert (pause.kind, pause.failed_probes) == (erp.url, None)
    assert 7100 < pause.until - pause.since <= 7200
    assert (await run(harness, "orders", 2)).reason == "calls_paused"


async def test_calls_beyond_the_declared_rate_wait_in_their_handler_or_postpone_the_event(
    harness: Harness, erp: OwnSystem
) -> None:
    limited = Host(erp.url, rate="2/h")
    register(harness, "orders", lambda tools: order(tools, erp.url), limited)
    for number in (1, 2):
        assert (await run(harness, "orders", number)).outcome == "processed"
    record = await run(harness, "orders", 3)
    assert (record.outcome, record.reason) == ("parked", "http_rate_reached")
    assert 3_500 < record.detail["delay_s"] <= 3_601
    assert len(erp.requests) == 2


async def test_rate_holds_for_all_workers(harness: Harness, erp: OwnSystem, environ: dict[str, str]) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await harness.redis.delete(f"spokes:host:{erp.url}:calls")  # the period is over

    harness.parts.http.rates.sleep = sleep
    await harness.redis.zadd(f"spokes:host:{erp.url}:calls", {"of another worker": clock.now_ms() - 500})
    register(harness, "orders", lambda tools: order(tools, erp.url), Host(erp.url, rate="1/s"))
    assert (await run(harness, "orders", 1)).outcome == "processed"
    assert len(slept) == 1


async def test_events_of_a_failing_host_live_as_long_as_those_of_a_failing_hubspot(
    harness: Harness, erp: OwnSystem
) -> None:
    async def fail(tools: Tools) -> None:
        erp.answers = [web.Response(status=503)]
        await order(tools, erp.url)

    register(harness, "orders", fail, erp.url, retries=())
    record = await run(harness, "orders", 1)
    assert (record.outcome, record.reason) == ("retried", "http_unavailable")
