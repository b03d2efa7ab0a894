"""Handlers that rewrite each other, and an automation that overwrites ours: both loops stop, with an alert."""

from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

from redis.asyncio import Redis

from bench.lib.queue_feed import QueueFeed
from bench.workers import PORTAL, TOKEN, running_worker, wait_until_empty
from spokes.core.redis import keys
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, ChangeSource
from spokes.simulator.config import PortalConfig, SimulatorConfig, Subscription
from spokes.simulator.crm.records import CrmRecord

_AUTOMATION = ChangeSource("AUTOMATION_PLATFORM", "workflow:1")
_THEIRS = "theirs"


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """The most writes of one object, and the alerts of rewrite loops."""

    writes_of_handlers: int
    writes_against_automation: int
    alerts: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether the loops stopped after one round: a handler's write, and at most one after the automation's."""
        return self.writes_of_handlers == 1 and self.writes_against_automation <= 2 and len(self.alerts) == 2


async def run_rewriting(redis: Redis, url: str, data: str, *, contacts: int, rounds: int = 8) -> RewriteResult:
    """Let users change the city, and an automation reset the zip after each of our writes, for `rounds` rounds."""
    subscriptions = tuple(Subscription("contact.propertyChange", name) for name in ("city", "state", "zip"))
    portal = PortalConfig(portal_id=PORTAL, token=TOKEN, subscriptions=subscriptions)
    await redis.flushall()
    async with Simulator(SimulatorConfig(portals=(portal,))) as sim:
        type_ = sim.crm.types.resolve("contacts")
        fighting = [sim.crm.create(type_, {"city": "a", "zip": _THEIRS}, USER) for _ in range(contacts)]
        automated = [sim.crm.create(type_, {"zip": "0"}, USER) for _ in range(contacts)]
        feed = QueueFeed(sim, redis, Random(7))
        environ = {"HANDLERS": "bench.handlers.rewriting", "HUBSPOT_API_URL": sim.url, "HUBSPOT_ACCESS_TOKEN": TOKEN}
        with ExitStack() as workers:
            for _ in range(2):
                workers.enter_context(running_worker(url, data, "spokes", **environ))
            for record in fighting:
                sim.crm.update(record, {"city": "b"}, USER)
            for _ in range(rounds):
                for record in automated:
                    if record.properties["zip"] != _THEIRS:
                        sim.crm.update(record, {"zip": _THEIRS}, _AUTOMATION)
                await feed.queue_shuffled(size=20)
                await wait_until_empty(redis, 60.0)
        alerts = [
            name.decode().rpartition("loop:")[2] async for name in redis.scan_iter(keys.alert_once(PORTAL, "loop:*"))
        ]
        return RewriteResult(_most_writes(fighting, sim), _most_writes(automated, sim), tuple(sorted(alerts)))


def _most_writes(records: list[CrmRecord], sim: Simulator) -> int:
    return max(len(sim.requests.writes_to(record.id)) for record in records)
