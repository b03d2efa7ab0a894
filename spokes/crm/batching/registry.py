"""What the services of one process share: calls, paths, the echo ledger and the lanes that batches form in.

Rule: one of each, so that whatever may share a batch meets in the same lane.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from spokes.crm.batching.archives import ArchiveQueue
from spokes.crm.batching.association_reads import AssociationQueue
from spokes.crm.batching.batch_queue import LINGER_S, BatchQueue
from spokes.crm.batching.creations import CreateQueue
from spokes.crm.batching.reads import ReadQueue
from spokes.crm.batching.updates import UpdateQueue, UpsertQueue
from spokes.crm.object_types import plural
from spokes.crm.own_writes import OwnWriteLedger
from spokes.crm.transport.paced_client import PacedClient
from spokes.crm.transport.paths import Paths
from spokes.crm.validation import ValidationRules

L = TypeVar("L", bound=BatchQueue[Any, Any])


class BatchQueues:
    """Everything a process talks to HubSpot with; `close` ends it."""

    def __init__(
        self,
        calls: PacedClient,
        paths: Paths,
        echoes: OwnWriteLedger,
        *,
        rules: ValidationRules | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        """Share these; the first caller of a batch waits `linger_s` seconds for company."""
        self.client = calls
        self.paths = paths
        self.own_writes = echoes
        self.rules = rules or ValidationRules()
        self._linger_s = linger_s
        self._queues: dict[tuple[object, ...], BatchQueue[Any, Any]] = {}

    def reads(self, portal_id: int, object_type: str, id_property: str = "") -> ReadQueue:
        """The lane that reads a type, by id or by a unique property."""
        return self._queue(ReadQueue, portal_id, plural(object_type), id_property)

    def creations(self, portal_id: int, object_type: str) -> CreateQueue:
        """The lane that makes objects of a type."""
        return self._queue(CreateQueue, portal_id, plural(object_type))

    def updates(self, portal_id: int, object_type: str) -> UpdateQueue:
        """The lane that updates a type."""
        return self._queue(UpdateQueue, portal_id, plural(object_type))

    def upserts(self, portal_id: int, object_type: str, id_property: str) -> UpsertQueue:
        """The lane that updates or makes objects of a type, by a unique property."""
        return self._queue(UpsertQueue, portal_id, plural(object_type), id_property)

    def archives(self, portal_id: int, object_type: str) -> ArchiveQueue:
        """The lane that archives objects of a type."""
        return self._queue(ArchiveQueue, portal_id, plural(object_type))

    def associations(self, portal_id: int, from_type: str, to_type: str) -> AssociationQueue:
        """The lane that lists associations between two types."""
        return self._queue(AssociationQueue, portal_id, plural(from_type), plural(to_type))

    async def close(self) -> None:
        """Refuse who waits, follow what is under way to its end, and close the client."""
        self.client.stop()
        for lane in list(self._queues.values()):
            await lane.close()
        await self.client.close()

    def _queue(self, lane: Callable[..., L], portal_id: int, *names: str) -> L:
        key = (lane, portal_id, *names)
        if key not in self._queues:
            self._queues[key] = lane(self.client, portal_id, self.paths, *names, linger_s=self._linger_s)
        return cast("L", self._queues[key])
