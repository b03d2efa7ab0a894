"""Random merge trees: no event may die of a 404, and every survivor's number is right."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

from redis.asyncio import Redis

from bench.lib.outcomes import Outcomes
from bench.lib.queue_feed import Feed
from bench.workers import PORTAL, emptied, worker
from spokes.queue.dead_letters import DeadLetters
from spokes.simulator.app import Simulator
from spokes.simulator.config import Limits, PortalConfig, SimulatorConfig, Subscription
from spokes.simulator.demo.merge_trees import MergeTrees

TOKEN = "not-a-real-token-but-long-enough"  # noqa: S105 - the simulator's own
KINDS = ("creation", "merge", "deletion", "propertyChange")
_ROUNDS = 5
_LATE = 0.3  # of what is told comes a round later


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of merge trees."""

    seconds: float
    events: int
    merges: int
    lost: int
    settled_twice: int
    letters: int
    died: int
    wrong: int

    @property
    def is_right(self) -> bool:
        """Whether nothing is amiss; an event that died before its merge was told may live again."""
        return not (self.lost or self.settled_twice or self.letters or self.wrong)


async def merges(redis: Redis, url: str, data: str, *, steps: int, follows: bool = True, seed: int = 7) -> Merged:
    """Let trees grow while two workers work; what HubSpot tells comes shuffled, some of it much later.

    Args:
        steps: how much happens in the CRM.
        follows: whether single calls of HubSpot follow previous ids; else they answer 404 until the merge is told.
    """
    rng = Random(seed)
    subscriptions = tuple(Subscription(f"contact.{kind}") for kind in KINDS)
    portal = PortalConfig(
        portal_id=PORTAL, token=TOKEN, subscriptions=subscriptions, follows_previous_ids=follows, limits=Limits(100_000)
    )
    await redis.flushall()
    async with Simulator(SimulatorConfig(portals=(portal,))) as sim:
        trees, feed = MergeTrees(sim, rng), Feed(sim, redis, rng)
        environ = {
            "HANDLERS": "handlers", "HUBSPOT_API_URL": sim.url, "HUBSPOT_ACCESS_TOKEN": TOKEN,
            "HUBSPOT_RATE_LIMIT": "100000",
        }  # fmt: skip
        began = time.monotonic()
        with ExitStack() as workers:
            for _ in range(2):
                workers.enter_context(worker(url, data, "spokes", **environ))
            for place in range(_ROUNDS + 2):  # the last are for what comes late, and for echoes of our own writes
                if place < _ROUNDS:
                    trees.grow(steps // _ROUNDS)
                await feed.shuffled(size=40, late=_LATE if place < _ROUNDS else 0.0)
                await emptied(redis, 120.0)
        seconds = time.monotonic() - began
        outcomes = await Outcomes.read(redis)
        letters = [letter async for letter in DeadLetters(redis).list(PORTAL)]
        return Merged(
            seconds, feed.told, trees.merge_count, feed.told - sum(count > 0 for count in outcomes.ends.values()),
            outcomes.settled_twice, len(letters), outcomes.counts["dead"], len(trees.wrong_contacts()),
        )  # fmt: skip
