"""Metrics: the counts of workers and web processes, summed in Redis, on the page of any web process."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.redis.keys import ALERTS_ACTIVE, AUDIT_STREAM, JOB_KEY_PREFIX, JOB_QUEUE, LIVE_PROCESSES, METRIC_GAUGES
from spokes.core.settings import Settings
from spokes.core.telemetry import metric_totals
from spokes.core.telemetry.metric_totals import MetricTotals, local_samples, render_page, sample_key
from spokes.core.telemetry.metrics import (
    BUDGET_LIMIT,
    BUDGET_PAUSE_SECONDS,
    BUDGET_USED,
    CALLS_PAUSED,
    DEAD_LETTERS,
    DEFINITIONS,
    HELD_DELIVERIES,
    LAG_SECONDS,
    PORTAL_CALLS_USED,
    PORTALS_PAUSED,
    Durations,
)
from spokes.queue.dead_letters import DeadLetter
from spokes.queue.dead_letters import store_commands as keep_letter
from spokes.simulator.app import Simulator
from tests.support.deployment import ROOT, Sign, WebProcessServer
from tests.support.events import batch, event
from tests.support.hubspot.crm_world import open_world
from workers.upkeep import gauges

PORTAL = 50112233
Labels = tuple[tuple[str, str], ...]


def read(text: str) -> dict[tuple[str, Labels], float]:
    """Return the samples of a page, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
async def client(settings: Settings, redis: Redis) -> AsyncIterator[TestClient]:
    async with TestClient(WebProcessServer(settings)) as client:
        yield client


async def samples(client: TestClient) -> dict[tuple[str, Labels], float]:
    async with client.get("/metrics") as answer:
        return read(await answer.text())


async def drain_queue(environ: dict[str, str], hubspot: Simulator) -> None:
    """Run a worker process until the queue is empty."""
    changes = {
        "HUBSPOT_API_URL": hubspot.url,
        "DATABASE_URL": "postgres://127.0.0.1:1/none",
        "RETRY_SCHEDULE_S": "0.01",
        "OUTAGE_RETRY_HOURS": "0",
    }
    command = (sys.executable, "-m", "workers", "--burst")
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, **environ, **changes}, stderr=quiet
    )
    try:
        async with asyncio.timeout(50):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def queue(redis: Redis, *elements: dict[str, object]) -> None:
    number = await redis.incr("test:deliveries")
    entries = tuple(Entry(f"{number:010x}{at:010x}", 0, element) for at, element in enumerate(elements))
    delivery = Delivery(f"{PORTAL}-{number}-1", PORTAL, 1, entries)
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, 1))
    await redis.zadd(JOB_QUEUE, {delivery.id: 1})


@pytest.mark.slow
async def test_page_includes_counts_of_workers_that_exited(
    client: TestClient, redis: Redis, environ: dict[str, str], hubspot: Simulator
) -> None:
    """Two workers run one after the other: the page has the sum, although both have exited."""
    before = await samples(client)  # other tests have counted in this process
    pages = []
    for number in range(2):
        await queue(redis, event(number), event(number, subscriptionType="contact.unheard_of", objectId=9 + number))
        await drain_queue(environ, hubspot)
        pages.append(await samples(client))

    def values(name: str, **labels: str) -> list[float]:
        sample = (name, tuple(sorted(labels.items())))
        return [page.get(sample, 0.0) - before.get(sample, 0.0) for page in pages]

    assert values("spokes_outcomes_total", handler="contacts.keep_reachable", outcome="dead") == [1, 2]
    assert values("spokes_unsuccessful_runs_total", outcome="dead", reason="no_handler") == [1, 2]
    assert values("spokes_handler_seconds_count", handler="contacts.keep_reachable") == [1, 2]
    assert values("spokes_lag_seconds_count") == [2, 4]
    assert values("spokes_batches_total", operation="read") == [1, 2]
    assert values("spokes_batch_callers_total", operation="read") == [1, 2]
    assert values("spokes_crm_calls_total", method="POST", outcome="answered")[1] >= 2
    assert values("spokes_budget_wait_seconds_count", kind="calls")[1] >= 2
    assert values("spokes_processes", process="worker") == [0, 0]
    assert [page["spokes_processes", (("process", "web"),)] for page in pages] == [1, 1]


async def test_backlogs_and_alerts_are_on_the_page_without_a_worker(client: TestClient, redis: Redis) -> None:
    now_ms = clock.now_ms()
    await redis.zadd(JOB_QUEUE, {"due": now_ms - 90_000, "later": now_ms + 90_000})
    await redis.xadd(AUDIT_STREAM, {b"r": b"{}"}, id=f"{now_ms - 30_000}-1")
    await redis.hset(ALERTS_ACTIVE, "secret_old:3f2a", "{}")

    page = await samples(client)

    assert page["spokes_queue_deliveries", (("state", "due"),)] == 1
    assert page["spokes_queue_deliveries", (("state", "later"),)] == 1
    assert 90 <= page["spokes_queue_oldest_due_seconds", ()] < 150
    assert page["spokes_archive_waiting", ()] == 1
    assert 30 <= page["spokes_archive_lag_seconds", ()] < 90
    assert page["spokes_alert_active", (("alert", "secret_old"),)] == 1
    assert page["spokes_redis_up", ()] == 1


async def test_requests_are_counted_and_timed_by_status_and_reason(
    client: TestClient, redis: Redis, sign: Sign
) -> None:
    before = await samples(client)
    body = batch(event(1))
    for headers in (sign(body), sign(body, secret="another-secret")):
        async with client.post("/webhooks/hubspot", data=body, headers=headers) as answer:
            await answer.read()
    after = await samples(client)

    def grown(name: str, **labels: str) -> float:
        key = name, tuple(sorted(labels.items()))
        return after[key] - before.get(key, 0)

    assert grown("spokes_requests_total", status="202", reason="") == 1
    assert grown("spokes_requests_total", status="401", reason="signature_mismatch") == 1
    assert grown("spokes_request_seconds_count", status="202") == 1
    assert grown("spokes_events_total", result="admitted") == 1


async def test_page_is_served_during_a_redis_outage(environ: dict[str, str]) -> None:
    settings = Settings.from_env({**environ, "REDIS_URL": "redis://127.0.0.1:1"})
    async with TestClient(WebProcessServer(settings)) as client:
        async with client.get("/nowhere") as answer:
            await answer.read()
        page = await samples(client)
    assert page["spokes_redis_up", ()] == 0
    assert page["spokes_requests_total", (("reason", "http_404"), ("status", "404"))] >= 1


async def test_sum_survives_a_redis_outage(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count during an outage is on the page during and after it, once."""
    totals = MetricTotals(redis, "worker")
    key = sample_key(LAG_SECONDS, "_count")
    await totals.flush()
    start = (await totals.read())[key]
    LAG_SECONDS.observe(1)

    async def fail() -> None:
        raise ConnectionError

    with monkeypatch.context() as outage:
        outage.setattr(totals, "flush", fail)
        meanwhile = (await totals.read())[key]
    after = (await totals.read())[key]
    assert [meanwhile - start, after - start] == [1, 1]


async def test_live_processes_are_those_with_a_recent_flush(redis: Redis) -> None:
    await redis.zadd(LIVE_PROCESSES, {"worker:gone:1": time.time() - 2 * metric_totals.PROCESS_TTL_S})
    totals = MetricTotals(redis, "worker")
    await totals.flush()
    living = await redis.zrange(LIVE_PROCESSES, 0, -1)
    await totals.close()
    assert ([member.partition(b":")[0] for member in living], await redis.zcard(LIVE_PROCESSES)) == ([b"worker"], 0)


async def test_gauges_show_budget_pauses_and_dead_letters(redis: Redis) -> None:
    async with open_world(redis) as world:
        await world.services("contacts.update").contacts.get(world.create(phone="1"))
        await world.crm.budget.pause(PORTAL, "calls", 20)
        await gauges._register_portals(redis, world.crm.budget)
        for number in (1, 2):
            entry = Entry(f"{number:032x}", 3, event(number))
            letter = DeadLetter(PORTAL, "d", entry, "no_handler", "", number)
            for command in keep_letter(letter, ttl_s=3600):
                await redis.execute_command(*command)
        await redis.hset("spokes:paused", "7", '{"why": "not_authorized", "since": 1}')
        await redis.hset("spokes:paused:calls", "7:contacts.write", '{"reason": "x", "since": 1, "until": 2}')
        await redis.zadd("spokes:7:held:contacts.write", {"7-1-a": 1, "7-2-a": 1})
        await redis.sadd("spokes:held", "7:contacts.write")
        measured = await gauges.measure(redis, world.crm.budget)
        await gauges.publish(redis, measured)

    assert measured[sample_key(DEAD_LETTERS)] == 2
    assert measured[sample_key(PORTALS_PAUSED, reason="not_authorized")] == 1
    assert measured[sample_key(CALLS_PAUSED, calls="contacts.write")] == 1
    assert measured[sample_key(HELD_DELIVERIES, calls="contacts.write")] == 2
    assert measured[sample_key(BUDGET_USED, kind="calls")] >= 1
    assert measured[sample_key(BUDGET_LIMIT, kind="calls")] >= 100
    assert 15 < measured[sample_key(BUDGET_PAUSE_SECONDS, kind="calls")] <= 20
    assert 0 < await redis.ttl(METRIC_GAUGES) <= 45


async def test_only_the_busiest_portals_have_samples_of_their_own(redis: Redis) -> None:
    async with open_world(redis) as world:
        for portal_id in range(1, 15):
            for _ in range(portal_id):
                await world.crm.budget.count_call(portal_id)
        await redis.zadd("spokes:budgets", {str(portal_id): time.time() for portal_id in range(1, 15)})
        samples = await gauges.measure(redis, world.crm.budget)
    portals = [name for name in samples if "portal_calls_used" in name]
    assert len(portals) == 10
    assert samples[sample_key(PORTAL_CALLS_USED, portal="14")] == 14
    assert sample_key(PORTAL_CALLS_USED, portal="4") not in samples


def test_observing_many_values_equals_observing_each() -> None:
    values = [0.0, 0.001, 0.0011, 3, 59, 60, 61, 1e9]
    ones, all_ = (Durations("x", "x", buckets=(0.001, 1, 60), registry=None) for _ in range(2))
    for value in values:
        ones.observe(value)
    all_.observe_all(values)
    assert [s.value for s in ones.collect()[0].samples] == [s.value for s in all_.collect()[0].samples]


def test_sample_key_refuses_labels_the_metric_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"spokes_portals_paused has the labels \['reason'\], not \['why'\]"):
        sample_key(PORTALS_PAUSED, why="not_authorized")


@pytest.mark.parametrize("key", ['["spokes_misspelt",{}]', '["spokes_events_total",{"fate":"admitted"}]'])
def test_sample_of_another_version_is_left_off_the_page(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    skipped: list[str] = []
    monkeypatch.setattr(metric_totals, "skip_unknown_sample", skipped.append)
    assert (render_page({key: 1.0}), skipped) == (b"", [key])


def test_buckets_are_on_the_page_in_ascending_order() -> None:
    lines = [
        line
        for line in render_page(local_samples()).decode().splitlines()
        if line.startswith("spokes_lag_seconds_bucket")
    ]
    bounds = [float(line.split('"')[1]) for line in lines]
    assert bounds == sorted(bounds)
    assert len(bounds) > 10


def test_labels_are_known_to_have_closed_value_sets() -> None:
    """A new label must not take ids of objects or persons as values; `portal` has ten of the busiest at most."""
    labels = {label for definition in DEFINITIONS.values() for label in definition.labels}
    assert labels == {
        "status", "reason", "result", "handler", "outcome", "method", "kind", "operation", "state", "alert", "process",
        "event", "calls", "host", "portal",
    }  # fmt: skip


async def test_page_requires_its_token(environ: dict[str, str], redis: Redis) -> None:
    settings = Settings.from_env({**environ, "METRICS_TOKEN": "a-token-of-prometheus"})
    answers = []
    async with TestClient(WebProcessServer(settings)) as client:
        for header in ("", "Bearer wrong", "Bearer \u20ac", "a-token-of-prometheus", "Bearer a-token-of-prometheus"):
            async with client.get("/metrics", headers={"Authorization": header}) as answer:
                answers.append((answer.status, b"spokes_" in await answer.read()))
    assert answers == [(401, False)] * 4 + [(200, True)]


async def test_concurrent_requests_share_one_measurement(client: TestClient, redis: Redis) -> None:
    await samples(client)
    before = (await redis.info("commandstats")).get("cmdstat_hgetall", {"calls": 0})["calls"]
    pages = await asyncio.gather(*(samples(client) for _ in range(40)))
    after = (await redis.info("commandstats"))["cmdstat_hgetall"]["calls"]
    assert (len(pages), after - before < 40) == (40, True)


@pytest.mark.slow
async def test_several_web_processes_serve_one_sum(
    environ: dict[str, str], redis: Redis, sign: Sign, unused_tcp_port: int
) -> None:
    """Whichever process answers, the page has the requests of all, and the count never falls."""
    changes = {"PORT": str(unused_tcp_port), "HOST": "127.0.0.1", "WEB_CONCURRENCY": "2", "LOG_LEVEL": "ERROR"}
    web = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingest", cwd=ROOT, env={**os.environ, **environ, **changes}
    )
    base = f"http://127.0.0.1:{unused_tcp_port}"
    accepted = ("spokes_requests_total", (("reason", ""), ("status", "202")))
    counts: list[float] = []
    try:
        # One connection per request, so that the kernel spreads them over the processes.
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            asyncio.timeout(50),
        ):
            await _wait_for_two_processes(session, base)
            for number in range(20):
                body = batch(event(number))
                async with session.post(f"{base}/webhooks/hubspot", data=body, headers=sign(body)) as answer:
                    assert answer.status == 202
            while not counts or counts[-1] < 20:
                async with session.get(f"{base}/metrics") as answer:
                    counts.append(read(await answer.text()).get(accepted, 0.0))
                await asyncio.sleep(0.1)
    finally:
        web.terminate()
        await web.wait()
    assert (counts == sorted(counts), counts[-1], web.returncode) == (True, 20, 0)


async def _wait_for_two_processes(session: aiohttp.ClientSession, base: str) -> None:
    """Wait until both web processes are registered."""
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"{base}/metrics") as answer:
                if read(await answer.text()).get(("spokes_processes", (("process", "web"),))) == 2:
                    return
        await asyncio.sleep(0.1)
