"""Handlers that rewrite each other, and an automation that rewrites ours: it stops, and somebody is told."""

from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

from redis.asyncio import Redis

from bench.lib.queue_feed import Feed
from bench.workers import PORTAL, emptied, worker
from spokes.core.redis import keys
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, ChangeSource
from spokes.simulator.config import PortalConfig, SimulatorConfig, Subscription
from spokes.simulator.crm.records import CrmRecord

TOKEN = "not-a-real-token-but-long-enough"  # noqa: S105 - the simulator's own
_AUTOMATION = ChangeSource("AUTOMATION_PLATFORM", "workflow:1")
_THEIRS = "theirs"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """How often at most one object was written by us, and of what somebody was told."""

    writes_of_handlers: int
    writes_against_automation: int
    told: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether it stopped after one round: a change is answered, and the answer to that once more."""
        return self.writes_of_handlers == 1 and self.writes_against_automation <= 2 and len(self.told) == 2


async def rewriting(redis: Redis, url: str, data: str, *, contacts: int, rounds: int = 8) -> Rewritten:
    """Have people change a city, and an automation a zip that it keeps setting back, for so many rounds."""
    subscriptions = tuple(Subscription("contact.propertyChange", name) for name in ("city", "state", "zip"))
    portal = PortalConfig(portal_id=PORTAL, token=TOKEN, subscriptions=subscriptions)
    await redis.flushall()
    async with Simulator(SimulatorConfig(portals=(portal,))) as sim:
        type_ = sim.crm.types.resolve("contacts")
        fighting = [sim.crm.create(type_, {"city": "a", "zip": _THEIRS}, USER) for _ in range(contacts)]
        automated = [sim.crm.create(type_, {"zip": "0"}, USER) for _ in range(contacts)]
        feed = Feed(sim, redis, Random(7))
        environ = {"HANDLERS": "bench.handlers.rewriting", "HUBSPOT_API_URL": sim.url, "HUBSPOT_ACCESS_TOKEN": TOKEN}
        with ExitStack() as workers:
            for _ in range(2):
                workers.enter_context(worker(url, data, "spokes", **environ))
            for record in fighting:
                sim.crm.update(record, {"city": "b"}, USER)
            for _ in range(rounds):
                for record in automated:
                    if record.properties["zip"] != _THEIRS:
                        sim.crm.update(record, {"zip": _THEIRS}, _AUTOMATION)
                await feed.shuffled(size=20)
                await emptied(redis, 60.0)
        told = [
            name.decode().rpartition("loop:")[2] async for name in redis.scan_iter(keys.alert_once(PORTAL, "loop:*"))
        ]
        return Rewritten(_most_writes(fighting, sim), _most_writes(automated, sim), tuple(sorted(told)))


def _most_writes(records: list[CrmRecord], sim: Simulator) -> int:
    return max(len(sim.requests.writes_to(record.id)) for record in records)
