"""What all processes have counted, together, in one hash of Redis. Rule: only what is new is added, so sums never fall.

A worker has no port of its own on Heroku, and a request of Prometheus reaches one web process of several. So each
process adds its news every few seconds, and any web process tells everybody's sum; a process that ends takes nothing
with it. Prometheus' own ways (a file for each process, a push gateway) share a disk or need another server.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import orjson
from prometheus_client import Metric, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.telemetry.metrics import METRICS

TOTALS: Final = "spokes:metrics"  # hash of sample to sum
GAUGES: Final = "spokes:figures"  # hash of sample to what a worker measured a moment ago
LIVE_PROCESSES: Final = "spokes:processes"  # sorted set of the processes that live, by the epoch s of their last word
PROCESS_TTL_S: Final = 30  # a process that has said nothing for so long is gone
_SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",),
}  # fmt: skip
_FLUSH_INTERVAL_S: Final = 5.0
_TOTALS_TTL_S: Final = 7 * 86_400  # without any process, until the sums are forgotten

Samples = dict[str, float]  # by `sample`


def sample_key(name: str, **labels: str) -> str:
    """Return the name under which a sample is kept."""
    return orjson.dumps([name, labels]).decode()


def local_samples() -> Samples:
    """Return what this process has counted so far."""
    return {
        sample_key(found.name, **found.labels): found.value
        for family in METRICS.collect()
        if family.type != "gauge"
        for found in family.samples
    }


class MetricTotals:
    """Adds what one process counts to what all have counted."""

    def __init__(self, redis: Redis, process: str) -> None:
        """Share through `redis`, which stays the caller's; `process` is `web` or `worker`."""
        self._redis = redis
        self._member = f"{process}:{socket.gethostname()}:{os.getpid()}"
        self._flushed: Samples = {}
        self._last_read: Samples = {}
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Share every few seconds until cancelled; Redis being away only delays it."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                await self.flush()
            await asyncio.sleep(_FLUSH_INTERVAL_S)

    async def flush(self) -> None:
        """Add what is new. If Redis takes it but its answer is lost, it is added again with the next.

        Raises:
            RedisError, OSError: Redis does not answer; what is new is kept for the next time.
        """
        async with self._lock:
            now = local_samples()
            async with self._redis.pipeline(transaction=True) as pipeline:
                for name, value in now.items():
                    if news := value - self._flushed.get(name, 0.0):
                        pipeline.hincrbyfloat(TOTALS, name, news)
                pipeline.expire(TOTALS, _TOTALS_TTL_S)
                pipeline.zadd(LIVE_PROCESSES, {self._member: time.time()})
                pipeline.zremrangebyscore(LIVE_PROCESSES, 0, time.time() - PROCESS_TTL_S)
                await pipeline.execute()
            self._flushed = now

    async def close(self) -> None:
        """Share what is left, and be counted among the living no more."""
        with contextlib.suppress(RedisError, OSError):
            await self.flush()
            await self._redis.zrem(LIVE_PROCESSES, self._member)

    async def read(self) -> Samples:
        """Return everybody's counts; while Redis is away, those of its last answer and what is new here."""
        with contextlib.suppress(RedisError, OSError):
            await self.flush()
            found: dict[bytes, bytes] = await self._redis.hgetall(TOTALS)  # type: ignore[misc]  # redis-py types one class for sync and async
            self._last_read = {name.decode(): float(value) for name, value in found.items()}
        now = local_samples()
        news = {name: value - self._flushed.get(name, 0.0) for name, value in now.items()}
        return {name: self._last_read.get(name, 0.0) + news.get(name, 0.0) for name in self._last_read | now}


def render_page(samples: Samples) -> bytes:
    """Return the text that Prometheus reads; samples of metrics that this code does not know are left out."""
    registry = CollectorRegistry()
    registry.register(_SampleCollector(samples))
    return generate_latest(registry)


class _SampleCollector(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> list[Metric]:
        """Return the families of `spokes.core.telemetry.metrics`, filled."""
        families = {known.name: Metric(known.name, known.documentation, known.type) for known in METRICS.collect()}
        by_sample = {name + ending: family for name, family in families.items() for ending in _SUFFIXES[family.type]}
        found = [(*_parse_key(key), value) for key, value in self._samples.items()]
        for name, labels, value in sorted(found, key=_sort_key):
            if family := by_sample.get(name):
                family.add_sample(name, dict(labels), value)
        return [family for family in families.values() if family.samples]


def _parse_key(key: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    name, labels = orjson.loads(key)
    return name, tuple(labels.items())


def _sort_key(found: tuple[str, tuple[tuple[str, str], ...], float]) -> tuple[object, ...]:
    """Buckets from the least to the most, all else by name."""
    name, labels, _ = found
    most = next((float(value) for label, value in labels if label == "le"), 0.0)
    return name, [label for label in labels if label[0] != "le"], most
