"""What the services of one process share: calls, paths, the echo ledger and the lanes that batches form in.

Rule: one of each, so that whatever may share a batch meets in the same lane.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from spokes.crm.batching.archives import ArchiveLane
from spokes.crm.batching.association_reads import AssociationLane
from spokes.crm.batching.batch_queue import LINGER_S, Lane
from spokes.crm.batching.creations import CreationLane
from spokes.crm.batching.reads import ReadLane
from spokes.crm.batching.updates import UpdateLane, UpsertLane
from spokes.crm.object_types import plural
from spokes.crm.own_writes import Echoes
from spokes.crm.transport.paced_client import Calls
from spokes.crm.transport.paths import Paths
from spokes.crm.validation import Rules

L = TypeVar("L", bound=Lane[Any, Any])


class Exchange:
    """Everything a process talks to HubSpot with; `close` ends it."""

    def __init__(
        self, calls: Calls, paths: Paths, echoes: Echoes, *, rules: Rules | None = None, linger_s: float = LINGER_S
    ) -> None:
        """Share these; the first caller of a batch waits `linger_s` seconds for company."""
        self.calls = calls
        self.paths = paths
        self.echoes = echoes
        self.rules = rules or Rules()
        self._linger_s = linger_s
        self._lanes: dict[tuple[object, ...], Lane[Any, Any]] = {}

    def reads(self, portal_id: int, object_type: str, id_property: str = "") -> ReadLane:
        """The lane that reads a type, by id or by a unique property."""
        return self._lane(ReadLane, portal_id, plural(object_type), id_property)

    def creations(self, portal_id: int, object_type: str) -> CreationLane:
        """The lane that makes objects of a type."""
        return self._lane(CreationLane, portal_id, plural(object_type))

    def updates(self, portal_id: int, object_type: str) -> UpdateLane:
        """The lane that updates a type."""
        return self._lane(UpdateLane, portal_id, plural(object_type))

    def upserts(self, portal_id: int, object_type: str, id_property: str) -> UpsertLane:
        """The lane that updates or makes objects of a type, by a unique property."""
        return self._lane(UpsertLane, portal_id, plural(object_type), id_property)

    def archivings(self, portal_id: int, object_type: str) -> ArchiveLane:
        """The lane that archives objects of a type."""
        return self._lane(ArchiveLane, portal_id, plural(object_type))

    def associations(self, portal_id: int, from_type: str, to_type: str) -> AssociationLane:
        """The lane that lists associations between two types."""
        return self._lane(AssociationLane, portal_id, plural(from_type), plural(to_type))

    async def close(self) -> None:
        """Refuse who waits, follow what is under way to its end, and close the client."""
        self.calls.stop()
        for lane in list(self._lanes.values()):
            await lane.close()
        await self.calls.close()

    def _lane(self, lane: Callable[..., L], portal_id: int, *names: str) -> L:
        key = (lane, portal_id, *names)
        if key not in self._lanes:
            self._lanes[key] = lane(self.calls, portal_id, self.paths, *names, linger_s=self._linger_s)
        return cast("L", self._lanes[key])
