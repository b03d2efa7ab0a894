"""Writes that share a batch. Rule: writes of one object keep their order, so no two of them are under way at once.

One bad input makes HubSpot refuse a whole batch, and then nothing of it was done: so it is halved until only the bad
one fails. What a batch leaves open is tried singly. A transient failure is everybody's, and is not repeated here.
"""

import asyncio
from abc import abstractmethod
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from spokes.core.errors import Conflict, CRMError, InvalidRequest, ObjectNotFound
from spokes.crm.batching.batch_queue import LINGER_S, Ask, Group, Lane, urgency
from spokes.crm.batching.batch_results import Outcomes
from spokes.crm.results import Done
from spokes.crm.transport.paced_client import Calls, Request
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.response_json import Json

if TYPE_CHECKING:
    from spokes.crm.transport.client import Answer

Want = TypeVar("Want")


class WriteLane(Lane[Want, Done]):
    """Writes objects of one type."""

    def __init__(
        self, calls: Calls, portal_id: int, paths: Paths, object_type: str, *, linger_s: float = LINGER_S
    ) -> None:
        super().__init__(calls, portal_id, linger_s=linger_s)
        self.paths = paths
        self.type = object_type
        self._behind: dict[str, deque[Ask[Want, Done]]] = {}  # by object that is being written: who comes after

    @abstractmethod
    def told(self, group: Group[Want, Done], answer: "Answer") -> Outcomes:
        """What an answer says of each input; of a group of one it leaves nothing open."""

    def made(self, input_id: str, item: Json) -> str:
        """The id of the object that an input wrote to."""
        del item
        return input_id

    def is_plain(self, group: Group[Want, Done]) -> bool:
        """Whether a group is written by a plain call, which follows merges and leaves nothing open."""
        return len(group) == 1

    async def singly(self, group: Group[Want, Done]) -> None:
        """Write one object that a batch did not find under its id."""
        await self._again(group)

    def finished(self, input_id: str) -> None:
        """Let the next write of the same object go."""
        behind = self._behind[input_id]
        if behind:
            super()._enter(behind.popleft())
        else:
            del self._behind[input_id]

    async def settle(self, group: Group[Want, Done], answer: "Answer") -> None:
        """Give each its own; an object that the batch did not find is tried singly, it may have been merged away."""
        told = self.told(group, answer)
        for input_id, item in told.found.items():
            for ask in group[input_id]:
                ask.give(Done(self.made(input_id, item), answer.correlation_id))
        again = list(told.unclear)
        for input_id, error in told.refused.items():
            if isinstance(error, ObjectNotFound) and not self.is_plain(group):
                again.append(input_id)
            else:
                await super().failed({input_id: group[input_id]}, error)
        await asyncio.gather(*(self.singly({input_id: group[input_id]}) for input_id in again))

    async def failed(self, group: Group[Want, Done], error: CRMError) -> None:
        """Halve a batch that was refused as a whole; a transient failure is everybody's."""
        if len(group) == 1 and isinstance(error, ObjectNotFound) and not self.is_plain(group):
            await self.singly(group)
            return
        if len(group) == 1 or not isinstance(error, InvalidRequest | ObjectNotFound | Conflict):
            await super().failed(group, error)
            return
        middle = len(group) // 2
        halves = (dict(islice(group.items(), middle)), dict(islice(group.items(), middle, None)))
        await asyncio.gather(*(self._again(half) for half in halves))

    def _enter(self, ask: Ask[Want, Done]) -> None:
        if ask.id in self._behind:
            self._behind[ask.id].append(ask)
        else:
            self._behind[ask.id] = deque()
            super()._enter(ask)

    async def _again(self, group: Group[Want, Done]) -> None:
        """Write once more for those who may still write when a place is there."""
        rest: dict[str, list[Ask[Want, Done]]] = {}

        def close() -> Request | None:
            rest.update({input_id: asks for input_id, asks in group.items() if asks[0].stands()})
            return self.compose(rest) if rest else None

        try:
            answer = await self.calls.send_late(self.portal_id, close, "calls", urgency(group))
        except CRMError as error:
            await self.failed(rest or group, error)
        else:
            if answer:
                await self.settle(rest, answer)
