"""One run of the load, and what the queue holds after it. Rule: a run that lost or made up an event gives no figure."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lib.load import Result
from lib.traffic import admitted_objects
from redis import Redis

from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, Delivery, decode

WARM_UP_S = 0.5  # of each run of the load, before the clock starts
_CHUNK = 1_000  # deliveries read at a time


class WrongRun(Exception):
    """What came out of a run is not what was sent into it."""


def most_requests(batch: int, seconds: float) -> int:
    """Return how many requests of `batch` events are more than a receiver with a queue takes in `seconds`."""
    return int(seconds / (40e-6 + 4e-6 * batch))


def run_load(
    port: int,
    *,
    batch: int,
    requests: int,
    seconds: float,
    first: int = 0,
    watch: Sequence[int] = (),
    again: bool = False,
    connections: int = 10,
    pause_ms: float = 0.0,
    warm_up_s: float = WARM_UP_S,
) -> Result:
    """Run the load in a process of its own, on the cores of this one.

    Raises:
        WrongRun: a request was answered by anything but 202.
    """
    with loading(
        port, ["--again"] * again, watch=watch, batch=batch, first=first, requests=requests, seconds=seconds,
        connections=connections, pause_ms=pause_ms, warm_up=warm_up_s,
    ) as result_of:  # fmt: skip
        result = result_of()
    if result.other_answers or not result.answered:
        raise WrongRun(f"{result.other_answers} of {result.sent} requests were not answered by 202")
    return result


@contextmanager
def loading(
    port: int, flags: Sequence[str] = (), *, watch: Sequence[int] = (), **options: float
) -> Iterator[Callable[[], Result]]:
    """Run the load while the block lasts; what is yielded waits for its end, and returns what it saw.

    Args:
        port: of the receiver.
        flags: of load.py, those without a value.
        watch: ids of processes whose CPU is counted.
        options: of load.py, those with a number.
    """
    words = [str(Path(__file__).with_name("load.py")), "--port", str(port), *flags]
    words += [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words += [word for pid in watch for word in ("--watch", str(pid))]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE) as load:

        def result() -> Result:
            out, _ = load.communicate(timeout=options["seconds"] + 120)
            if load.returncode:
                raise subprocess.CalledProcessError(load.returncode, words)
            return Result(**json.loads(out))

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
                object_id = entry.raw.get("objectId")  # an association's event may hold anything there
                if type(object_id) is int:
                    yield object_id


def check_queue(redis: Redis, requests: int, batch: int) -> int:
    """Return how many events of the first `requests` are queued: exactly the wanted ones, each once.

    Raises:
        WrongRun: events are missing, doubled, or were not sent.
    """
    expected = admitted_objects(0, requests * batch)
    queued = list(queued_objects(redis))
    if len(queued) != len(expected) or set(queued) != expected:
        missing = len(expected.difference(queued))
        raise WrongRun(f"{len(queued)} events queued, {len(expected)} acknowledged, {missing} of those missing")
    return len(queued)


def memory_bytes(redis: Redis) -> int:
    """Return what Redis uses, in bytes."""
    return int(cast("dict[str, Any]", redis.info("memory"))["used_memory"])


def process_id(redis: Redis) -> int:
    """Return the id of Redis' process."""
    return int(cast("dict[str, Any]", redis.info("server"))["process_id"])
