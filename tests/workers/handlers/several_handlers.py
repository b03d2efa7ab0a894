"""A worker's parts with two handlers for every contact event, and what they did."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from redis.asyncio import Redis

from spokes.audit.records import Action
from spokes.core.delivery import Delivery, decode
from spokes.core.events import Event
from spokes.core.redis.keys import JOB_KEY_PREFIX, QUEUES
from spokes.core.redis.outage import RedisOutage
from spokes.routing import Handler, Router, uses
from spokes.tools import Tools
from tests.support.events import recorded
from tests.workers.harness import Harness
from workers.delivery.run_delivery import WorkerParts, run_delivery
from workers.queue.claimed_job import ClaimedJob

EVENT_TYPES = ("contact.propertyChange", "contact.creation", "contact.merge")


class SeveralHandlers:
    """Handlers called `first` and `second`; each runs its function in `does`, and raises the next of its `errors`.

    A call is recorded as handler, object id, value, number of coalesced events.
    """

    def __init__(self, harness: Harness, *names: str, each_event: Iterable[str] = ()) -> None:
        self.harness = harness
        self.calls: list[tuple[str, str, str | None, int]] = []
        self.errors: defaultdict[str, list[BaseException]] = defaultdict(list)
        self.does: dict[str, Handler] = {}
        self._each_event = set(each_event)
        self._starts = 0
        self.start(*(names or ("first", "second")))

    @property
    def redis(self) -> Redis:
        return self.harness.redis

    def start(self, *names: str) -> None:
        """Start a worker with these handlers, after the former one if there was one."""
        self.router = Router()
        for handler in map(self._handler, names):
            for event_type in EVENT_TYPES:
                self.router.register(event_type)(handler)
        self._starts += 1
        parts = self.harness.parts
        self.parts = WorkerParts.start(
            parts.settings, self.redis, self.router, self.harness.crm, self.harness.pauses,
            holder=f"worker-{self._starts}", outage=RedisOutage(),
        )  # fmt: skip

    async def run(self, *raws: dict[str, object]) -> None:
        """Queue events as one delivery, and run everything that is queued once."""
        await self.harness.queue(*raws)
        await self.run_queued()

    async def run_queued(self, *, attempt: int = 1) -> int:
        """Run every queued delivery once, due or not, as its `attempt`th claim; return how many there were."""
        payloads = [await self.redis.get(JOB_KEY_PREFIX + job_id) for job_id in await self.job_ids()]
        deliveries = [Delivery.from_job(decode(payload)["a"][0]) for payload in payloads]
        jobs = [ClaimedJob(delivery.id, delivery.to_job(), attempt) for delivery in deliveries]
        await asyncio.gather(*(run_delivery(job, self.parts) for job in jobs))
        return len(deliveries)

    async def job_ids(self) -> list[str]:
        return [job_id.decode() for queue in QUEUES.values() for job_id in await self.redis.zrange(queue, 0, -1)]

    async def outcomes(self) -> list[tuple[str, str, str]]:
        """Return handler, outcome and reason of every outcome so far."""
        records = await recorded(self.redis)
        return [
            (record.handler, record.outcome.value, record.reason)
            for record in records
            if record.action is Action.EVENT and record.outcome
        ]

    def _handler(self, name: str) -> Handler:
        async def handler(event: Event, tools: Tools) -> None:
            self.calls.append((name, event.survivor_id, event.property_value, tools.coalesced_count))
            if does := self.does.get(name):
                await does(event, tools)
            if self.errors[name]:
                raise self.errors[name].pop(0)

        handler.__name__, handler.__module__ = name, "contacts"
        return uses(may=("contacts.update", "notes.create"), each_event=name in self._each_event)(handler)
