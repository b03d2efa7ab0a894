"""Measure the reader of HubSpot's journal: `python bench/journal.py`. Events a second into Redis, and its memory.

The reader has one core; the prepared journal, Valkey and this script share the other. The run is checked: every event
of the journal is queued exactly once.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from redis import Redis

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from bench.hubspots.journal_hubspot import FIRST_ID
from bench.lib.runs import InvalidRun, queued_objects
from bench.lib.servers import (
    OTHER_CORES,
    await_ready,
    cpu_seconds,
    free_port,
    pin_to_cores,
    redis_url,
    resident_mb,
    running_process,
    running_valkey,
)
from bench.lib.traffic import environment
from spokes.core.redis.keys import JOURNAL_CURSOR

_POLL_S = 0.05
_LONGEST_S = 600.0


def main() -> int:
    """Measure; return 1 if the reader is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--events", type=int, default=10_000, help="events of a page; HubSpot writes up to 10,000")
    parser.add_argument("--max-mb", type=float, default=120.0, help="resident memory that is allowed")
    arguments = parser.parse_args()
    pin_to_cores(OTHER_CORES)
    with tempfile.TemporaryDirectory() as folder, running_valkey(Path(folder)) as redis:
        peak_mb = _measure(redis, Path(folder), arguments.pages, arguments.events)
    return 0 if peak_mb < arguments.max_mb else 1


def _measure(redis: Redis, folder: Path, pages: int, events: int) -> float:
    """Read all pages, print the figures, and return the peak of the reader's memory in MB."""
    port = free_port()
    options = ["--port", str(port), "--pages", str(pages), "--events", str(events)]
    hubspot = ["-m", "bench.hubspots.journal_hubspot", *options]
    env = {
        **environment(port, redis_url(redis), str(folder)), "HUBSPOT_API_URL": f"http://127.0.0.1:{port}",
        "HUBSPOT_CLIENT_ID": "bench-client-id", "SECRETS_KEY": "s" * 32, "DEDUPE_HOURS": "96", "MAX_BACKLOG": "1000000",
        "MAX_UNARCHIVED": "100000000",
    }  # fmt: skip
    with running_process(hubspot, env, folder / "hubspot.log", cores=OTHER_CORES) as server:
        await_ready(server, f"http://127.0.0.1:{port}/webhooks-journal/journal/2026-09/latest")
        with running_process(["-m", "ingest.journal"], env, folder / "journal.log") as reader:
            samples: list[float] = []
            while not redis.exists(JOURNAL_CURSOR):
                _check_running(reader.poll(), folder)
                time.sleep(_POLL_S / 10)
            started, cpu_before = time.monotonic(), cpu_seconds(reader.pid)
            first_page = _page(redis)
            while _page(redis) < pages - 1:
                _check_running(reader.poll(), folder)
                if time.monotonic() - started > _LONGEST_S:
                    raise InvalidRun("the reader did not finish")
                samples.append(resident_mb(reader.pid))
                time.sleep(_POLL_S)
            seconds, cpu_s = time.monotonic() - started, cpu_seconds(reader.pid) - cpu_before
    read = (pages - 1 - first_page) * events
    _check_queue(redis, pages * events)
    half = samples[len(samples) // 2 :]
    print(f"{read:,} events of pages of {events:,} in {seconds:.2f} s: {read / seconds:,.0f} a second")
    print(f"{read / cpu_s:,.0f} events for a second of the reader's core ({1e6 * cpu_s / read:.1f} us each)")
    print(f"memory of the reader: at most {max(samples):.1f} MB; {min(half):.1f} to {max(half):.1f} in the second half")
    return max(samples)


def _page(redis: Redis) -> int:
    offset = redis.hget(JOURNAL_CURSOR, "offset")
    return int(offset.decode().removeprefix("p") or -1) if isinstance(offset, bytes) else -1


def _check_running(exit_code: int | None, folder: Path) -> None:
    if exit_code is not None:
        raise InvalidRun(f"the reader ended: {(folder / 'journal.log').read_text()[-500:]}")


def _check_queue(redis: Redis, count: int) -> None:
    ids = list(queued_objects(redis))
    if len(ids) != count or set(ids) != set(range(FIRST_ID, FIRST_ID + count)):
        raise InvalidRun(f"{len(ids)} events are queued, {len(set(ids))} different ones; the journal had {count}")


if __name__ == "__main__":
    sys.exit(main())
