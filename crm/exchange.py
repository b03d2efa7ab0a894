"""What the services of one process share: calls, paths, the echo ledger and the lanes that batches form in.

Rule: one of each, so that whatever may share a batch meets in the same lane.
"""

from crm.association_reads import AssociationLane
from crm.calls import Calls
from crm.coalescer import LINGER_S
from crm.echoes import Echoes
from crm.paths import Paths
from crm.reads import ReadLane
from crm.types import plural
from crm.updates import UpdateLane


class Exchange:
    """Everything a process talks to HubSpot with; `close` ends it."""

    def __init__(self, calls: Calls, paths: Paths, echoes: Echoes, *, linger_s: float = LINGER_S) -> None:
        """Share these; the first caller of a batch waits `linger_s` seconds for company."""
        self.calls = calls
        self.paths = paths
        self.echoes = echoes
        self._linger_s = linger_s
        self._reads: dict[tuple[int, str, str], ReadLane] = {}
        self._updates: dict[tuple[int, str], UpdateLane] = {}
        self._associations: dict[tuple[int, str, str], AssociationLane] = {}

    def reads(self, portal_id: int, object_type: str, id_property: str = "") -> ReadLane:
        """The lane that reads a type, by id or by a unique property."""
        key = (portal_id, plural(object_type), id_property)
        if key not in self._reads:
            self._reads[key] = ReadLane(self.calls, portal_id, self.paths, *key[1:], linger_s=self._linger_s)
        return self._reads[key]

    def updates(self, portal_id: int, object_type: str) -> UpdateLane:
        """The lane that updates a type."""
        key = (portal_id, plural(object_type))
        if key not in self._updates:
            self._updates[key] = UpdateLane(self.calls, portal_id, self.paths, key[1], linger_s=self._linger_s)
        return self._updates[key]

    def associations(self, portal_id: int, from_type: str, to_type: str) -> AssociationLane:
        """The lane that lists associations between two types."""
        key = (portal_id, plural(from_type), plural(to_type))
        if key not in self._associations:
            lane = AssociationLane(self.calls, portal_id, self.paths, *key[1:], linger_s=self._linger_s)
            self._associations[key] = lane
        return self._associations[key]

    async def close(self) -> None:
        """Refuse who waits, follow what is under way to its end, and close the client."""
        self.calls.stop()
        lanes: list[ReadLane | UpdateLane | AssociationLane] = [
            *self._reads.values(), *self._updates.values(), *self._associations.values(),
        ]  # fmt: skip
        for lane in lanes:
            await lane.close()
        await self.calls.close()
