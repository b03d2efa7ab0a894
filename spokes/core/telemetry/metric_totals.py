"""Sums of all processes' metrics, in one Redis hash. Processes add only increments, so a sum never falls.

On Heroku a worker has no port, and a request of Prometheus reaches one of several web processes. So each process adds
its increments every few seconds, and any web process serves the sums. The counts of a process survive its exit.
Prometheus' own solutions need a shared disk (a file per process) or another server (a push gateway).
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import orjson
from prometheus_client import Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.redis.keys import LIVE_PROCESSES, METRIC_TOTALS
from spokes.core.telemetry.metrics import DEFINITIONS, METRICS

PROCESS_TTL_S: Final = 30  # a process without a flush for this long is gone
_SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",),
}  # fmt: skip
FLUSH_EVERY_S: Final = 5.0
_TOTALS_TTL_S: Final = 7 * 86_400  # sums expire when no process flushes for this long

Samples = dict[str, float]  # by `sample_key`


def sample_name(metric: Counter | Gauge | Histogram, suffix: str = "") -> str:
    """Return the name of a metric's sample; `suffix` is `_count` or `_sum` of a histogram."""
    name, _, kind, _ = DEFINITIONS[metric]
    return name + (suffix or _SUFFIXES[kind][0])


def sample_key(metric: Counter | Gauge | Histogram, suffix: str = "", /, **labels: str) -> str:
    """Return the key of a sample in the totals and gauges: its name and labels as JSON.

    Raises:
        ValueError: `labels` are not the labels of `metric`.
    """
    if labels.keys() != (expected := DEFINITIONS[metric].labels):
        raise ValueError(f"{DEFINITIONS[metric].name} has the labels {sorted(expected)}, not {sorted(labels)}")
    return _key(sample_name(metric, suffix), labels)


def _key(name: str, labels: Mapping[str, str]) -> str:
    return orjson.dumps([name, labels]).decode()


def local_samples() -> Samples:
    """Return the counters and histograms of this process."""
    return {
        _key(sample.name, sample.labels): sample.value
        for family in METRICS.collect()
        if family.type != "gauge"
        for sample in family.samples
    }


class MetricTotals:
    """Adds one process's increments to the totals in Redis, and reads the totals."""

    def __init__(self, redis: Redis, process: str) -> None:
        """Use `redis`, which the caller closes; `process` is `web` or `worker`."""
        self._redis = redis
        self._member = f"{process}:{socket.gethostname()}:{os.getpid()}"
        self._flushed: Samples = {}
        self._last_read: Samples = {}
        self._lock = asyncio.Lock()

    async def flush(self) -> None:
        """Add the increments since the last flush. If Redis' response is lost, they are added twice.

        Raises:
            RedisError, OSError: Redis does not answer; the next flush adds the increments.
        """
        async with self._lock:
            now = local_samples()
            async with self._redis.pipeline(transaction=True) as pipeline:
                for key, value in now.items():
                    increment = value - self._flushed.get(key, 0.0)
                    if increment or key not in self._flushed:  # a new sample is stored as 0 too
                        pipeline.hincrbyfloat(METRIC_TOTALS, key, increment)
                pipeline.expire(METRIC_TOTALS, _TOTALS_TTL_S)
                pipeline.zadd(LIVE_PROCESSES, {self._member: time.time()})
                pipeline.zremrangebyscore(LIVE_PROCESSES, 0, time.time() - PROCESS_TTL_S)
                await pipeline.execute()
            self._flushed = now

    async def close(self) -> None:
        """Flush the remaining increments and deregister this process."""
        with contextlib.suppress(RedisError, OSError):
            await self.flush()
            await self._redis.zrem(LIVE_PROCESSES, self._member)

    async def read(self) -> Samples:
        """Return the totals of all processes; during a Redis outage, the last ones read plus our own increments."""
        with contextlib.suppress(RedisError, OSError):
            await self.flush()
            totals: dict[bytes, bytes] = await self._redis.hgetall(METRIC_TOTALS)  # type: ignore[misc]  # redis-py types one class for sync and async
            self._last_read = read_samples(totals)
        now = local_samples()
        increments = {key: value - self._flushed.get(key, 0.0) for key, value in now.items()}
        return {key: self._last_read.get(key, 0.0) + increments.get(key, 0.0) for key in self._last_read | now}


def read_samples(totals: Mapping[bytes, bytes]) -> Samples:
    """Return stored samples, without fields that something else wrote."""
    samples: Samples = {}
    for key, value in totals.items():
        with contextlib.suppress(ValueError):
            samples[key.decode()] = float(value)
    return samples


def skip_unknown_sample(key: str) -> None:
    """Do nothing: during a deploy another version may write samples that this one does not define. Tests raise here."""


def render_page(samples: Samples) -> bytes:
    """Return the page that Prometheus reads; skip samples that this version does not define."""
    registry = CollectorRegistry()
    registry.register(_SampleCollector(samples))
    return generate_latest(registry)


class _SampleCollector(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> list[Metric]:
        """Return the metric families of `spokes.core.telemetry.metrics`, filled with the samples."""
        families = [Metric(name, help_text, kind) for name, help_text, kind, _ in DEFINITIONS.values()]
        by_sample = {
            family.name + suffix: (family, definition.labels)
            for family, definition in zip(families, DEFINITIONS.values(), strict=True)
            for suffix in _SUFFIXES[family.type]
        }
        parsed = [(*_parse_key(key), value) for key, value in self._samples.items()]
        for name, labels, value in sorted(parsed, key=_sort_key):
            family, expected = by_sample.get(name, (None, frozenset()))
            if family is not None and labels.keys() - {"le"} == expected:
                family.add_sample(name, labels, value)
            else:
                skip_unknown_sample(_key(name, labels))
        return [family for family in families if family.samples]


def _parse_key(key: str) -> tuple[str, dict[str, str]]:
    name, labels = orjson.loads(key)
    return name, labels


def _sort_key(sample: tuple[str, dict[str, str], float]) -> tuple[object, ...]:
    """Sort by name and labels, buckets by their bound."""
    name, labels, _ = sample
    bound = float(labels.get("le", 0.0))
    return name, [label for label in labels.items() if label[0] != "le"], bound
