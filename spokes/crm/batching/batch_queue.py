"""Many callers, few calls. Rule: a batch closes only when its place in the budget is granted; until then all may join.

A lane gathers what may share a call. Callers wait for their own answer: one who gives up harms no other. A batch takes
along what is interactive first, and fills up with what is not.

Writes that share a batch. Rule: writes of one object keep their order, so no two of them are under way at once.

One bad input makes HubSpot refuse a whole batch, and then nothing of it was done: so it is halved until only the bad
one fails. What a batch leaves open is tried singly. A transient failure is everybody's, and is not repeated here.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from spokes.core.errors import Conflict, CRMError, CRMUnavailable, InvalidRequest, LeaseLost, ObjectNotFound
from spokes.core.telemetry.metrics import BATCH_ASKS, BATCH_INPUTS, BATCHES
from spokes.crm.batching.batch_results import Outcomes
from spokes.crm.results import Done
from spokes.crm.transport.paced_client import Calls, Request, Still, always
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.rate_budget import PRIORITIES, Kind, Priority
from spokes.crm.transport.response_json import Json

if TYPE_CHECKING:
    from spokes.crm.transport.client import Answer

LINGER_S: Final = 0.005  # how long the first caller waits for company

Want = TypeVar("Want")
Result = TypeVar("Result")


class Ask(Generic[Want, Result]):
    """One caller: the input it asks for, what it wants of it, how urgently, and where its answer goes.

    `still` tells whether the caller has lost the right to ask while it waited.
    """

    __slots__ = ("_still", "answer", "id", "priority", "want")

    def __init__(
        self,
        input_id: str,
        want: Want,
        priority: Priority = "interactive",
        still: Still = always,
    ) -> None:
        self.id = input_id
        self.want = want
        self.priority = priority
        self._still = still
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def stands(self) -> bool:
        """Whether it is to be part of a call that leaves now."""
        if self.answer.done():
            return False
        try:
            self._still()
        except LeaseLost as lost:
            self.answer.set_exception(lost)
            return False
        return True

    def give(self, result: Result) -> None:
        """Answer, if anybody still waits."""
        if not self.answer.done():
            self.answer.set_result(result)

    def fail(self, error: CRMError) -> None:
        """Refuse, if anybody still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)


Group: TypeAlias = Mapping[str, list[Ask[Want, Result]]]  # the askers of a batch, by input


class Lane(ABC, Generic[Want, Result]):
    """Gathers asks that may share a call of HubSpot, one input however many ask for it."""

    kind: Kind = "calls"
    size = 100  # inputs of a batch; HubSpot's docs, "Using Object APIs"

    def __init__(self, calls: Calls, portal_id: int, *, linger_s: float = LINGER_S) -> None:
        self.calls = calls
        self.portal_id = portal_id
        self._linger_s = linger_s
        self._waiting: dict[str, list[Ask[Want, Result]]] = {}
        self._urgent: dict[str, None] = {}  # those of them that an interactive caller waits for, in their order
        self._collectors: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)  # batches that wait for a place
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def compose(self, group: Group[Want, Result]) -> Request:
        """The call that asks for a whole group."""

    @abstractmethod
    async def settle(self, group: Group[Want, Result], answer: "Answer") -> None:
        """Give every asker its result or its error."""

    async def failed(self, group: Group[Want, Result], error: CRMError) -> None:
        """Deal with a call that failed as a whole: it is everybody's failure."""
        for asks in group.values():
            for ask in asks:
                ask.fail(error)

    def finished(self, input_id: str) -> None:
        """Take note that no ask for this input is under way any more."""

    async def join(
        self,
        input_id: str,
        want: Want,
        priority: Priority = "interactive",
        still: Still = always,
    ) -> Result:
        """Ask for one input, if `still` does not raise when its batch closes; the answer comes with the batch.

        Raises:
            CRMError: the call failed.
            LeaseLost: `still` did so.
        """
        ask: Ask[Want, Result] = Ask(input_id, want, priority, still)
        self._enter(ask)
        return await ask.answer

    async def send(self, group: Group[Want, Result], request: Request) -> "Answer":
        """Make a further call that only looks, for a group."""
        return await self.calls.send(self.portal_id, request, "calls", urgency(group))

    async def close(self) -> None:
        """See to it that everything asked for is answered, or refused."""
        while self._tasks or self._timer:
            if self._timer:
                self._timer.cancel()
                self._linger_over()
            await asyncio.gather(*self._tasks)
            await asyncio.sleep(0)  # what is done leaves the set in the loop's next turn

    def _enter(self, ask: Ask[Want, Result]) -> None:
        """Let `ask` wait for the next batch, and see to it that there is one."""
        self._waiting.setdefault(ask.id, []).append(ask)
        if ask.priority == "interactive":
            self._urgent[ask.id] = None
        rest = self._rest(ask.priority)
        if rest >= self.size:
            self._start_collector(ask.priority)
        elif rest > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._linger_over)

    def _rest(self, priority: Priority) -> int:
        """How many inputs are left over by the batches on their way, which take `size` each."""
        rest = -self.size * self._collectors["interactive"]
        if priority == "interactive":
            return rest + len(self._urgent)
        return rest + len(self._waiting) - self.size * self._collectors["background"]

    def _linger_over(self) -> None:
        self._timer = None
        for priority in PRIORITIES:
            if self._rest(priority) > 0:
                self._start_collector(priority)

    def _start_collector(self, priority: Priority) -> None:
        self._collectors[priority] += 1
        self._start(self._collect(priority))

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _collect(self, priority: Priority) -> None:
        group: Group[Want, Result] | None = None

        def close() -> Request | None:
            nonlocal group
            group = self._close_group(priority)
            if not group:
                return None
            _count(type(self).__name__, group)
            return self.compose(group)

        try:
            answer = await self.calls.send_late(self.portal_id, close, self.kind, priority)
        except CRMError as error:
            if group is None:  # refused before its turn: the wait is too long for everybody who waits
                group = self._close_group(priority)
            await self.failed(group, error)
        else:
            if group and answer:
                await self.settle(group, answer)
        finally:
            self._leave(group or {})

    def _leave(self, group: Group[Want, Result]) -> None:
        for input_id, asks in group.items():
            for ask in asks:
                ask.fail(CRMUnavailable())  # whatever happened, nobody is left waiting
            self.finished(input_id)

    def _close_group(self, priority: Priority) -> Group[Want, Result]:
        """The first inputs that somebody still waits for, interactive ones before others."""
        self._collectors[priority] -= 1
        group: dict[str, list[Ask[Want, Result]]] = {}
        for input_id in [*self._urgent, *(i for i in self._waiting if i not in self._urgent)]:
            if len(group) == self.size:
                break
            self._urgent.pop(input_id, None)
            asks = [ask for ask in self._waiting.pop(input_id) if ask.stands()]
            if asks:
                group[input_id] = asks
            else:
                self.finished(input_id)
        return group


def urgency(group: Group[Want, Result]) -> Priority:
    """A further call for a group is as urgent as the most urgent of its callers."""
    urgent = any(ask.priority == "interactive" for asks in group.values() for ask in asks)
    return "interactive" if urgent else "background"


def _count(lane: str, group: Group[Want, Result]) -> None:
    name = lane.removesuffix("Lane").lower()
    BATCHES.labels(name).inc()
    BATCH_INPUTS.labels(name).inc(len(group))
    BATCH_ASKS.labels(name).inc(sum(map(len, group.values())))


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
