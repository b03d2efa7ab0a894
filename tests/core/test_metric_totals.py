"""Metrics: what workers and web processes count, summed in Redis, on the page of any web process."""

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
from spokes.core.delivery import ALERTS_ACTIVE, AUDIT_STREAM, JOB_KEY_PREFIX, JOB_QUEUE, Delivery, Entry, job_payload
from spokes.core.settings import Settings
from spokes.core.telemetry import metric_totals as totals
from spokes.core.telemetry.metric_totals import LIVE_PROCESSES, MetricTotals, local_samples, render_page, sample_key
from spokes.core.telemetry.metrics import LAG_SECONDS, METRICS, Durations
from spokes.queue.dead_letters import DeadLetter
from spokes.queue.dead_letters import store_commands as keep_letter
from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig
from tests.support.crm_world import world_of
from tests.support.deployment import ROOT, TOKEN, Sign, WebProcessServer
from tests.support.events import batch, event
from workers.upkeep import gauges as figures

PORTAL = 50112233
Labels = tuple[tuple[str, str], ...]


def read(text: str) -> dict[tuple[str, Labels], float]:
    """The samples of a page, by name and labels."""
    return {
        (found.name, tuple(sorted(found.labels.items()))): found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
    }


@pytest.fixture
async def client(settings: Settings, redis: Redis) -> AsyncIterator[TestClient]:
    async with TestClient(WebProcessServer(settings)) as client:
        yield client


async def samples(client: TestClient) -> dict[tuple[str, Labels], float]:
    async with client.get("/metrics") as answer:
        return read(await answer.text())


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))) as simulator:
        yield simulator


async def work_off(environ: dict[str, str], hubspot: Simulator) -> None:
    """Run a worker process until the queue is empty."""
    given = {"HUBSPOT_API_URL": hubspot.url, "DATABASE_URL": "postgres://127.0.0.1:1/none", "RETRY_SCHEDULE_S": "0.01"}
    command = (sys.executable, "-m", "workers", "--burst")
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, **environ, **given}, stderr=quiet
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


async def test_any_web_process_tells_what_workers_counted_before_they_ended(
    client: TestClient, redis: Redis, environ: dict[str, str], hubspot: Simulator
) -> None:
    """Two workers, one after the other: the page holds the sum, though neither lives any more."""
    before = await samples(client)  # this process has counted what other tests did in it
    told = []
    for number in range(2):
        await queue(redis, event(number), event(number, subscriptionType="contact.unheard_of", objectId=9 + number))
        await work_off(environ, hubspot)
        told.append(await samples(client))

    def values(name: str, **labels: str) -> list[float]:
        sample = (name, tuple(sorted(labels.items())))
        return [page.get(sample, 0.0) - before.get(sample, 0.0) for page in told]

    assert values("spokes_outcomes_total", handler="contacts.keep_reachable", outcome="dead") == [1, 2]
    assert values("spokes_setbacks_total", outcome="dead", reason="no_handler") == [1, 2]
    assert values("spokes_handler_seconds_count", handler="contacts.keep_reachable") == [1, 2]
    assert values("spokes_lag_seconds_count") == [2, 4]
    assert values("spokes_batches_total", lane="read") == [1, 2]
    assert values("spokes_batch_asks_total", lane="read") == [1, 2]
    assert values("spokes_crm_calls_total", method="POST", outcome="answered")[1] >= 2
    assert values("spokes_budget_wait_seconds_count", kind="calls")[1] >= 2
    assert values("spokes_processes", process="worker") == [0, 0]
    assert [page["spokes_processes", (("process", "web"),)] for page in told] == [1, 1]


async def test_what_waits_and_what_stands_is_told_without_a_worker(client: TestClient, redis: Redis) -> None:
    now_ms = clock.now_ms()
    await redis.zadd(JOB_QUEUE, {"due": now_ms - 90_000, "later": now_ms + 90_000})
    await redis.xadd(AUDIT_STREAM, {b"r": b"{}"}, id=f"{now_ms - 30_000}-1")
    await redis.hset(ALERTS_ACTIVE, "secret_old:3f2a", "{}")

    told = await samples(client)

    assert told["spokes_queue_deliveries", (("state", "due"),)] == 1
    assert told["spokes_queue_deliveries", (("state", "later"),)] == 1
    assert 90 <= told["spokes_queue_late_seconds", ()] < 150
    assert told["spokes_archive_waiting", ()] == 1
    assert 30 <= told["spokes_archive_lag_seconds", ()] < 90
    assert told["spokes_alert_standing", (("alert", "secret_old"),)] == 1
    assert told["spokes_redis_up", ()] == 1


async def test_requests_are_counted_by_answer_and_reason_and_timed(
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
    assert grown("spokes_events_total", fate="admitted") == 1


async def test_page_is_told_while_redis_is_away_and_sums_do_not_fall(environ: dict[str, str]) -> None:
    settings = Settings.from_env({**environ, "REDIS_URL": "redis://127.0.0.1:1"})
    async with TestClient(WebProcessServer(settings)) as client:
        async with client.get("/nowhere") as answer:
            await answer.read()
        told = await samples(client)
    assert told["spokes_redis_up", ()] == 0
    assert told["spokes_requests_total", (("reason", "http_404"), ("status", "404"))] >= 1


async def test_sum_survives_the_absence_of_redis(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before, meanwhile, and after; never less than before, and nothing twice."""
    ours = MetricTotals(redis, "worker")
    name = sample_key("spokes_lag_seconds_count")
    await ours.flush()
    start = (await ours.read())[name]
    LAG_SECONDS.observe(1)

    async def away(name: str) -> None:
        raise ConnectionError

    with monkeypatch.context() as gone:
        gone.setattr(ours, "flush", lambda: away(""))
        meanwhile = (await ours.read())[name]
    after = (await ours.read())[name]
    assert [meanwhile - start, after - start] == [1, 1]


async def test_living_processes_are_those_that_spoke_of_late(redis: Redis) -> None:
    await redis.zadd(LIVE_PROCESSES, {"worker:gone:1": time.time() - 2 * totals.PROCESS_TTL_S})
    ours = MetricTotals(redis, "worker")
    await ours.flush()
    living = await redis.zrange(LIVE_PROCESSES, 0, -1)
    await ours.close()
    assert ([member.partition(b":")[0] for member in living], await redis.zcard(LIVE_PROCESSES)) == ([b"worker"], 0)


async def test_figures_tell_budget_pauses_and_dead_letters(redis: Redis) -> None:
    async with world_of(redis) as world:
        await world.services("contacts.update").contacts.get(world.make(phone="1"))
        await world.crm.budget.pause(PORTAL, "calls", 20)
        await figures._register_portals(redis, world.crm.budget)
        for number in (1, 2):
            entry = Entry(f"{number:032x}", 3, event(number))
            letter = DeadLetter(PORTAL, "d", entry, "no_handler", "", number)
            for command in keep_letter(letter, ttl_s=3600):
                await redis.execute_command(*command)
        await redis.hset("spokes:paused", "7", '{"why": "not_authorized"}')
        told = await figures.measure(redis, world.crm.budget)
        await figures.publish(redis, told)

    assert told[sample_key("spokes_dead_letters")] == 2
    assert told[sample_key("spokes_portals_paused", why="not_authorized")] == 1
    assert told[sample_key("spokes_budget_used", kind="calls")] >= 1
    assert told[sample_key("spokes_budget_limit", kind="calls")] >= 100
    assert 15 < told[sample_key("spokes_budget_pause_seconds", kind="calls")] <= 20
    assert 0 < await redis.ttl(totals.GAUGES) <= 45


def test_many_values_are_observed_as_each_would_be() -> None:
    values = [0.0, 0.001, 0.0011, 3, 59, 60, 61, 1e9]
    ones, all_ = (Durations("x", "x", buckets=(0.001, 1, 60), registry=None) for _ in range(2))
    for value in values:
        ones.observe(value)
    all_.observe_all(values)
    assert [s.value for s in ones.collect()[0].samples] == [s.value for s in all_.collect()[0].samples]


def test_buckets_stand_on_the_page_from_the_least_to_the_most() -> None:
    lines = [
        line
        for line in render_page(local_samples()).decode().splitlines()
        if line.startswith("spokes_lag_seconds_bucket")
    ]
    bounds = [float(line.split('"')[1]) for line in lines]
    assert bounds == sorted(bounds)
    assert len(bounds) > 10


def test_no_label_can_take_any_value_that_comes() -> None:
    """A label is a word for a closed set; ids of portals, objects and people are none."""
    labels = {label for family in METRICS._names_to_collectors.values() for label in family._labelnames}
    assert labels == {
        "status", "reason", "fate", "handler", "outcome", "method", "kind", "lane", "why", "state", "alert", "process",
        "event",
    }  # fmt: skip


async def test_page_asks_for_its_token(environ: dict[str, str], redis: Redis) -> None:
    settings = Settings.from_env({**environ, "METRICS_TOKEN": "a-token-of-prometheus"})
    answers = []
    async with TestClient(WebProcessServer(settings)) as client:
        for told in ("", "Bearer wrong", "Bearer \u20ac", "a-token-of-prometheus", "Bearer a-token-of-prometheus"):
            async with client.get("/metrics", headers={"Authorization": told}) as answer:
                answers.append((answer.status, b"spokes_" in await answer.read()))
    assert answers == [(401, False)] * 4 + [(200, True)]


async def test_many_who_ask_at_once_cost_redis_one_page(client: TestClient, redis: Redis) -> None:
    await samples(client)
    before = (await redis.info("commandstats")).get("cmdstat_hgetall", {"calls": 0})["calls"]
    pages = await asyncio.gather(*(samples(client) for _ in range(40)))
    after = (await redis.info("commandstats"))["cmdstat_hgetall"]["calls"]
    assert (len(pages), after - before < 40) == (40, True)


async def test_several_web_processes_tell_one_sum(
    environ: dict[str, str], redis: Redis, sign: Sign, unused_tcp_port: int
) -> None:
    """Whichever of them answers: requests that any took, and never less than a page before told."""
    given = {"PORT": str(unused_tcp_port), "HOST": "127.0.0.1", "WEB_CONCURRENCY": "2", "LOG_LEVEL": "ERROR"}
    web = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingest", cwd=ROOT, env={**os.environ, **environ, **given}
    )
    base = f"http://127.0.0.1:{unused_tcp_port}"
    taken = ("spokes_requests_total", (("reason", ""), ("status", "202")))
    told: list[float] = []
    try:
        # A connection for each request, so that the kernel spreads them over the processes.
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            asyncio.timeout(50),
        ):
            await _until_two(session, base)
            for number in range(20):
                body = batch(event(number))
                async with session.post(f"{base}/webhooks/hubspot", data=body, headers=sign(body)) as answer:
                    assert answer.status == 202
            while not told or told[-1] < 20:
                async with session.get(f"{base}/metrics") as answer:
                    told.append(read(await answer.text()).get(taken, 0.0))
                await asyncio.sleep(0.1)
    finally:
        web.terminate()
        await web.wait()
    assert (told == sorted(told), told[-1], web.returncode) == (True, 20, 0)


async def _until_two(session: aiohttp.ClientSession, base: str) -> None:
    """Wait until both processes live."""
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"{base}/metrics") as answer:
                if read(await answer.text()).get(("spokes_processes", (("process", "web"),))) == 2:
                    return
        await asyncio.sleep(0.1)
