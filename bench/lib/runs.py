"""One run of the load generator, and a check of the queue after it. A run with a wrong queue gives no figure."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from redis import Redis

from bench.lib.load import LoadResult
from bench.lib.traffic import admitted_objects
from spokes.core.delivery import Delivery, decode
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE

WARM_UP_S = 0.5  # of each run of the load generator, not measured
_CHUNK = 1_000  # deliveries read at a time


class InvalidRun(Exception):
    """The responses or the queue of a run are not as expected, so its figures are invalid."""


def max_requests(batch: int, seconds: float) -> int:
    """Return a number of requests of `batch` events that no web process can handle in `seconds`."""
    return int(seconds / (40e-6 + 4e-6 * batch))


def run_load(
    port: int,
    *,
    batch: int,
    requests: int,
    seconds: float,
    first: int = 0,
    watch: Sequence[int] = (),
    repeat: bool = False,
    connections: int = 10,
    pause_ms: float = 0.0,
    warm_up_s: float = WARM_UP_S,
) -> LoadResult:
    """Run the load generator as a separate process, on the cores of this one.

    Raises:
        InvalidRun: a response was not 202.
    """
    with running_load(
        port, ["--again"] * repeat, watch=watch, batch=batch, first=first, requests=requests, seconds=seconds,
        connections=connections, pause_ms=pause_ms, warm_up=warm_up_s,
    ) as result_of:  # fmt: skip
        result = result_of()
    if result.other_responses or not result.answered:
        raise InvalidRun(f"{result.other_responses} of {result.sent} requests were not acknowledged with 202")
    return result


@contextmanager
def running_load(
    port: int, flags: Sequence[str] = (), *, watch: Sequence[int] = (), **options: float
) -> Iterator[Callable[[], LoadResult]]:
    """Run the load generator while the block runs; yield a function that waits for its end and returns its result.

    Args:
        port: of the server.
        flags: options of load.py without a value.
        watch: ids of processes whose CPU time is measured.
        options: options of load.py with a number.
    """
    command = [str(Path(__file__).with_name("load.py")), "--port", str(port), *flags]
    command += [argument for name, value in options.items() for argument in (f"--{name.replace('_', '-')}", str(value))]
    command += [argument for pid in watch for argument in ("--watch", str(pid))]
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE) as load:

        def result() -> LoadResult:
            out, _ = load.communicate(timeout=options["seconds"] + 120)
            if load.returncode:
                raise subprocess.CalledProcessError(load.returncode, command)
            return LoadResult(**json.loads(out))

        try:
            yield result
        finally:
            load.kill()


def queued_objects(redis: Redis) -> Iterator[int]:
    """Yield the object id of each event in the queue that has one."""
    ids = cast("list[bytes]", redis.zrange(JOB_QUEUE, 0, -1))
    for start in range(0, len(ids), _CHUNK):
        keys = [JOB_KEY_PREFIX.encode() + name for name in ids[start : start + _CHUNK]]
        for payload in cast("list[bytes]", redis.mget(keys)):
            for entry in Delivery.from_job(decode(payload)["a"][0]).entries:
                object_id = entry.raw.get("objectId")  # the fuzzer's association events may have any type there
                if type(object_id) is int:
                    yield object_id


def check_queue(redis: Redis, requests: int, batch: int) -> int:
    """Check that the queue contains exactly the wanted events of the first `requests`, each once; return their number.

    Raises:
        InvalidRun: events are missing, duplicated, or were not sent.
    """
    expected = admitted_objects(0, requests * batch)
    queued = list(queued_objects(redis))
    if len(queued) != len(expected) or set(queued) != expected:
        missing = len(expected.difference(queued))
        raise InvalidRun(f"{len(queued)} events queued, {len(expected)} acknowledged, {missing} of those missing")
    return len(queued)


def memory_bytes(redis: Redis) -> int:
    """Return the memory that Redis uses, in bytes."""
    return int(cast("dict[str, Any]", redis.info("memory"))["used_memory"])


def process_id(redis: Redis) -> int:
    """Return the process id of Redis."""
    return int(cast("dict[str, Any]", redis.info("server"))["process_id"])
