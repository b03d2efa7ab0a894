"""The batch queues of one process: one per portal, object type and operation, so that callers share calls."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from spokes.crm.batching.archives import ArchiveQueue
from spokes.crm.batching.association_reads import AssociationQueue
from spokes.crm.batching.batch_queue import LINGER_S, BatchQueue
from spokes.crm.batching.creations import CreateQueue
from spokes.crm.batching.property_schemas import PropertySchemas
from spokes.crm.batching.reads import ReadQueue
from spokes.crm.batching.updates import UpdateQueue, UpsertQueue
from spokes.crm.object_types import plural
from spokes.crm.transport.idle_entries import IdleEntries
from spokes.crm.transport.paced_client import PacedClient
from spokes.crm.transport.paths import Paths
from spokes.crm.values.validation import ValidationRules

Queue = TypeVar("Queue", bound=BatchQueue[Any, Any])


class BatchQueues:
    """Batch queues, created on first use and forgotten when idle, with the client and paths they share."""

    def __init__(
        self, client: PacedClient, paths: Paths, *, rules: ValidationRules | None = None, linger_s: float = LINGER_S
    ) -> None:
        """Share these; the first submission of a batch waits `linger_s` seconds for others."""
        self.client = client
        self.paths = paths
        self.rules = rules or ValidationRules()
        self.region: Callable[[int], str] | None = None  # of phone numbers without a +, by portal
        self.schemas = PropertySchemas(client, paths)
        self._linger_s = linger_s
        self._queues: IdleEntries[tuple[Any, ...], BatchQueue[Any, Any]] = IdleEntries(self._make, BatchQueue.is_idle)

    def rules_for(self, portal_id: int) -> ValidationRules:
        """Return the validation rules of a portal."""
        if self.region is None or (region := self.region(portal_id)) == self.rules.default_region:
            return self.rules
        return replace(self.rules, default_region=region)

    def reads(self, portal_id: int, object_type: str, id_property: str = "") -> ReadQueue:
        """The queue that reads objects of a type, by id or by a unique property."""
        return self._queue(ReadQueue, portal_id, plural(object_type), id_property)

    def creations(self, portal_id: int, object_type: str) -> CreateQueue:
        """The queue that creates objects of a type."""
        return self._queue(CreateQueue, portal_id, plural(object_type))

    def updates(self, portal_id: int, object_type: str) -> UpdateQueue:
        """The queue that updates objects of a type."""
        return self._queue(UpdateQueue, portal_id, plural(object_type))

    def upserts(self, portal_id: int, object_type: str, id_property: str) -> UpsertQueue:
        """The queue that updates or creates objects of a type, by a unique property."""
        return self._queue(UpsertQueue, portal_id, plural(object_type), id_property)

    def archives(self, portal_id: int, object_type: str) -> ArchiveQueue:
        """The queue that archives objects of a type."""
        return self._queue(ArchiveQueue, portal_id, plural(object_type))

    def associations(self, portal_id: int, from_type: str, to_type: str) -> AssociationQueue:
        """The queue that lists associations from one type to another."""
        return self._queue(AssociationQueue, portal_id, plural(from_type), plural(to_type))

    async def close(self) -> None:
        """Reject waiting submissions, wait for calls in flight, and close the client."""
        self.client.stop()
        for _, queue in list(self._queues.items()):
            await queue.close()
        await self.client.close()

    def _queue(self, queue_class: Callable[..., Queue], portal_id: int, *names: str) -> Queue:
        return cast("Queue", self._queues[queue_class, portal_id, *names])

    def _make(self, key: tuple[Any, ...]) -> BatchQueue[Any, Any]:
        queue_class, portal_id, *names = key
        return cast(
            "BatchQueue[Any, Any]",
            queue_class(self.client, portal_id, self.paths, *names, linger_s=self._linger_s),
        )
