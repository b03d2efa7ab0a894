"""Random merge trees: no event becomes a dead letter because of a 404, and every survivor has its number."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

from redis.asyncio import Redis

from bench.lib.outcomes import StreamOutcomes
from bench.lib.queue_feed import QueueFeed
from bench.workers import PORTAL, TOKEN, running_worker, wait_until_empty
from spokes.queue.dead_letters import DeadLetters
from spokes.simulator.app import Simulator
from spokes.simulator.config import Limits, PortalConfig, SimulatorConfig, Subscription
from spokes.simulator.demo.merge_trees import MergeTrees

KINDS = ("creation", "merge", "deletion", "propertyChange")
_ROUNDS = 5
_LATE = 0.3  # share of the events that are queued one round later


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The result of a run with merge trees."""

    seconds: float
    events: int
    merges: int
    lost: int
    settled_twice: int
    dead_letters: int
    dead_outcomes: int
    wrong: int

    @property
    def is_right(self) -> bool:
        """Whether the end state is correct; an event that is dead before its merge is known may be replayed."""
        return not (self.lost or self.settled_twice or self.dead_letters or self.wrong)


async def run_merges(
    redis: Redis, url: str, data: str, *, steps: int, follows: bool = True, seed: int = 7
) -> MergeResult:
    """Grow merge trees while two workers run; events are queued in random order, some of them a round later.

    Args:
        steps: the number of edits and merges.
        follows: whether calls on one object follow previous ids; otherwise they return 404.
    """
    rng = Random(seed)
    subscriptions = tuple(Subscription(f"contact.{kind}") for kind in KINDS)
    portal = PortalConfig(
        portal_id=PORTAL, token=TOKEN, subscriptions=subscriptions, follows_previous_ids=follows, limits=Limits(100_000)
    )
    await redis.flushall()
    async with Simulator(SimulatorConfig(portals=(portal,))) as sim:
        trees, feed = MergeTrees(sim, rng), QueueFeed(sim, redis, rng)
        environ = {
            "HANDLERS": "handlers", "HUBSPOT_API_URL": sim.url, "HUBSPOT_ACCESS_TOKEN": TOKEN,
            "HUBSPOT_RATE_LIMIT": "100000",
        }  # fmt: skip
        began = time.monotonic()
        with ExitStack() as workers:
            for _ in range(2):
                workers.enter_context(running_worker(url, data, "spokes", **environ))
            for round_ in range(_ROUNDS + 2):  # the last two are for late events and for echoes of our own writes
                if round_ < _ROUNDS:
                    trees.grow(steps // _ROUNDS)
                await feed.queue_shuffled(size=40, late=_LATE if round_ < _ROUNDS else 0.0)
                await wait_until_empty(redis, 120.0)
        seconds = time.monotonic() - began
        outcomes = await StreamOutcomes.read(redis)
        letters = [letter async for letter in DeadLetters(redis).list(PORTAL)]
        return MergeResult(
            seconds,
            events=feed.queued_count,
            merges=trees.merge_count,
            lost=feed.queued_count - sum(count > 0 for count in outcomes.final_counts.values()),
            settled_twice=outcomes.settled_twice,
            dead_letters=len(letters),
            dead_outcomes=outcomes.counts["dead"],
            wrong=len(trees.wrong_contacts()),
        )
