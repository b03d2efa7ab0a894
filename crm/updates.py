"""Updates that share a batch. Rule: updates of one object keep their order, so no two of them are under way at once.

One bad input makes HubSpot refuse the whole batch; it is then halved until only the bad one fails.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from core.errors import Conflict, CRMError, InvalidRequest, ObjectNotFound
from crm.batches import outcomes, text_id
from crm.calls import Calls, Request
from crm.coalescer import LINGER_S, Ask, Group, Lane
from crm.paths import Paths

if TYPE_CHECKING:
    from crm.client import Answer

Change = Mapping[str, str]


class UpdateLane(Lane[Change, str]):
    """Updates objects of one type; a caller gets HubSpot's correlation id."""

    def __init__(
        self, calls: Calls, portal_id: int, paths: Paths, object_type: str, *, linger_s: float = LINGER_S
    ) -> None:
        super().__init__(calls, portal_id, linger_s=linger_s)
        self._paths = paths
        self._type = object_type
        self._behind: dict[str, deque[Ask[Change, str]]] = {}  # by object that is being updated: who comes after

    def _enter(self, ask: Ask[Change, str]) -> None:
        if ask.id in self._behind:
            self._behind[ask.id].append(ask)
        else:
            self._behind[ask.id] = deque()
            super()._enter(ask)

    def finished(self, input_id: str) -> None:
        """Let the next update of the same object go."""
        behind = self._behind[input_id]
        if behind:
            super()._enter(behind.popleft())
        else:
            del self._behind[input_id]

    def compose(self, group: Group[Change, str]) -> Request:
        """One batch update; a single one is a plain update, which also knows the former ids of merged records."""
        if len(group) == 1:
            ((object_id, asks),) = group.items()
            path = self._paths.objects(self._type, object_id)
            return Request("PATCH", path, body={"properties": dict(asks[0].want)})
        inputs = [{"id": object_id, "properties": dict(asks[0].want)} for object_id, asks in group.items()]
        return Request("POST", self._paths.objects(self._type, "batch", "update"), body={"inputs": inputs})

    async def settle(self, group: Group[Change, str], answer: "Answer") -> None:
        """Give each its own; an object that the batch did not find is tried singly, it may have been merged away."""
        if len(group) == 1:
            _give(group, group, answer)
            return
        told = outcomes(group, answer.body, lambda item: text_id(item.get("id")))
        _give(group, told.found, answer)
        again = list(told.unclear)
        for object_id, error in told.refused.items():
            if isinstance(error, ObjectNotFound):
                again.append(object_id)
            else:
                await super().failed({object_id: group[object_id]}, error)
        await asyncio.gather(*(self._again({object_id: group[object_id]}) for object_id in again))

    async def failed(self, group: Group[Change, str], error: CRMError) -> None:
        """Halve a batch that was refused as a whole; a transient failure is everybody's."""
        if len(group) == 1 or not isinstance(error, InvalidRequest | ObjectNotFound | Conflict):
            await super().failed(group, error)
            return
        middle = len(group) // 2
        halves = (dict(islice(group.items(), middle)), dict(islice(group.items(), middle, None)))
        await asyncio.gather(*(self._again(half) for half in halves))

    async def _again(self, group: Group[Change, str]) -> None:
        try:
            answer = await self.calls.send(self.portal_id, self.compose(group))
        except CRMError as error:
            await self.failed(group, error)
        else:
            await self.settle(group, answer)


def _give(group: Group[Change, str], ids: Iterable[str], answer: "Answer") -> None:
    for object_id in ids:
        for ask in group[object_id]:
            ask.give(answer.correlation_id)
