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
from spokes.core.telemetry.metrics import BATCH_CALLERS, BATCH_INPUTS, BATCHES
from spokes.crm.batching.batch_results import BatchResults
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import ApiRequest, PacedClient, SendCheck, no_check
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.rate_budget import PRIORITIES, CallKind, Priority
from spokes.crm.transport.response_json import Json

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

LINGER_S: Final = 0.005  # how long the first caller waits for company

Want = TypeVar("Want")
Result = TypeVar("Result")


class Submission(Generic[Want, Result]):
    """One caller: the input it asks for, what it wants of it, how urgently, and where its answer goes.

    `still` tells whether the caller has lost the right to ask while it waited.
    """

    __slots__ = ("_still", "answer", "id", "priority", "want")

    def __init__(
        self,
        input_id: str,
        want: Want,
        priority: Priority = "interactive",
        still: SendCheck = no_check,
    ) -> None:
        self.id = input_id
        self.want = want
        self.priority = priority
        self._still = still
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def is_still_wanted(self) -> bool:
        """Whether it is to be part of a call that leaves now."""
        if self.answer.done():
            return False
        try:
            self._still()
        except LeaseLost as lost:
            self.answer.set_exception(lost)
            return False
        return True

    def resolve(self, result: Result) -> None:
        """Answer, if anybody still waits."""
        if not self.answer.done():
            self.answer.set_result(result)

    def reject(self, error: CRMError) -> None:
        """Refuse, if anybody still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)


Batch: TypeAlias = Mapping[str, list[Submission[Want, Result]]]  # the askers of a batch, by input


class BatchQueue(ABC, Generic[Want, Result]):
    """Gathers asks that may share a call of HubSpot, one input however many ask for it."""

    kind: CallKind = "calls"
    max_inputs = 100  # inputs of a batch; HubSpot's docs, "Using Object APIs"

    def __init__(self, calls: PacedClient, portal_id: int, *, linger_s: float = LINGER_S) -> None:
        self.client = calls
        self.portal_id = portal_id
        self._linger_s = linger_s
        self._waiting: dict[str, list[Submission[Want, Result]]] = {}
        self._interactive: dict[str, None] = {}  # those of them that an interactive caller waits for, in their order
        self._pending_batches: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)  # batches that wait for a place
        self._linger_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def build_request(self, group: Batch[Want, Result]) -> ApiRequest:
        """The call that asks for a whole group."""

    @abstractmethod
    async def apply_response(self, group: Batch[Want, Result], answer: "ApiResponse") -> None:
        """Give every asker its result or its error."""

    async def apply_error(self, group: Batch[Want, Result], error: CRMError) -> None:
        """Deal with a call that failed as a whole: it is everybody's failure."""
        for asks in group.values():
            for ask in asks:
                ask.reject(error)

    def input_done(self, input_id: str) -> None:
        """Take note that no ask for this input is under way any more."""

    async def submit(
        self,
        input_id: str,
        want: Want,
        priority: Priority = "interactive",
        still: SendCheck = no_check,
    ) -> Result:
        """Ask for one input, if `still` does not raise when its batch closes; the answer comes with the batch.

        Raises:
            CRMError: the call failed.
            LeaseLost: `still` did so.
        """
        ask: Submission[Want, Result] = Submission(input_id, want, priority, still)
        self._enqueue(ask)
        return await ask.answer

    async def send_read(self, group: Batch[Want, Result], request: ApiRequest) -> "ApiResponse":
        """Make a further call that only looks, for a group."""
        return await self.client.send(self.portal_id, request, "calls", batch_priority(group))

    async def close(self) -> None:
        """See to it that everything asked for is answered, or refused."""
        while self._tasks or self._linger_timer:
            if self._linger_timer:
                self._linger_timer.cancel()
                self._linger_elapsed()
            await asyncio.gather(*self._tasks)
            await asyncio.sleep(0)  # what is done leaves the set in the loop's next turn

    def _enqueue(self, ask: Submission[Want, Result]) -> None:
        """Let `ask` wait for the next batch, and see to it that there is one."""
        self._waiting.setdefault(ask.id, []).append(ask)
        if ask.priority == "interactive":
            self._interactive[ask.id] = None
        rest = self._unclaimed_inputs(ask.priority)
        if rest >= self.max_inputs:
            self._start_batch(ask.priority)
        elif rest > 0 and self._linger_timer is None:
            self._linger_timer = asyncio.get_running_loop().call_later(self._linger_s, self._linger_elapsed)

    def _unclaimed_inputs(self, priority: Priority) -> int:
        """How many inputs are left over by the batches on their way, which take `size` each."""
        rest = -self.max_inputs * self._pending_batches["interactive"]
        if priority == "interactive":
            return rest + len(self._interactive)
        return rest + len(self._waiting) - self.max_inputs * self._pending_batches["background"]

    def _linger_elapsed(self) -> None:
        self._linger_timer = None
        for priority in PRIORITIES:
            if self._unclaimed_inputs(priority) > 0:
                self._start_batch(priority)

    def _start_batch(self, priority: Priority) -> None:
        self._pending_batches[priority] += 1
        self._start_task(self._send_batch(priority))

    def _start_task(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_batch(self, priority: Priority) -> None:
        group: Batch[Want, Result] | None = None

        def close() -> ApiRequest | None:
            nonlocal group
            group = self._take_batch(priority)
            if not group:
                return None
            _count_batch(type(self).__name__, group)
            return self.build_request(group)

        try:
            answer = await self.client.send_when_granted(self.portal_id, close, self.kind, priority)
        except CRMError as error:
            if group is None:  # refused before its turn: the wait is too long for everybody who waits
                group = self._take_batch(priority)
            await self.apply_error(group, error)
        else:
            if group and answer:
                await self.apply_response(group, answer)
        finally:
            self._finish_batch(group or {})

    def _finish_batch(self, group: Batch[Want, Result]) -> None:
        for input_id, asks in group.items():
            for ask in asks:
                ask.reject(CRMUnavailable())  # whatever happened, nobody is left waiting
            self.input_done(input_id)

    def _take_batch(self, priority: Priority) -> Batch[Want, Result]:
        """The first inputs that somebody still waits for, interactive ones before others."""
        self._pending_batches[priority] -= 1
        group: dict[str, list[Submission[Want, Result]]] = {}
        for input_id in [*self._interactive, *(i for i in self._waiting if i not in self._interactive)]:
            if len(group) == self.max_inputs:
                break
            self._interactive.pop(input_id, None)
            asks = [ask for ask in self._waiting.pop(input_id) if ask.is_still_wanted()]
            if asks:
                group[input_id] = asks
            else:
                self.input_done(input_id)
        return group


def batch_priority(group: Batch[Want, Result]) -> Priority:
    """A further call for a group is as urgent as the most urgent of its callers."""
    urgent = any(ask.priority == "interactive" for asks in group.values() for ask in asks)
    return "interactive" if urgent else "background"


def _count_batch(lane: str, group: Batch[Want, Result]) -> None:
    name = lane.removesuffix("Lane").lower()
    BATCHES.labels(name).inc()
    BATCH_INPUTS.labels(name).inc(len(group))
    BATCH_CALLERS.labels(name).inc(sum(map(len, group.values())))


class WriteBatchQueue(BatchQueue[Want, WriteReceipt]):
    """Writes objects of one type."""

    def __init__(
        self, calls: PacedClient, portal_id: int, paths: Paths, object_type: str, *, linger_s: float = LINGER_S
    ) -> None:
        super().__init__(calls, portal_id, linger_s=linger_s)
        self.paths = paths
        self.object_type = object_type
        self._queued_writes: dict[
            str, deque[Submission[Want, WriteReceipt]]
        ] = {}  # by object that is being written: who comes after

    @abstractmethod
    def parse_response(self, group: Batch[Want, WriteReceipt], answer: "ApiResponse") -> BatchResults:
        """What an answer says of each input; of a group of one it leaves nothing open."""

    def written_id(self, input_id: str, item: Json) -> str:
        """The id of the object that an input wrote to."""
        del item
        return input_id

    def uses_plain_endpoint(self, group: Batch[Want, WriteReceipt]) -> bool:
        """Whether a group is written by a plain call, which follows merges and leaves nothing open."""
        return len(group) == 1

    async def retry_alone(self, group: Batch[Want, WriteReceipt]) -> None:
        """Write one object that a batch did not find under its id."""
        await self._retry_batch(group)

    def input_done(self, input_id: str) -> None:
        """Let the next write of the same object go."""
        behind = self._queued_writes[input_id]
        if behind:
            super()._enqueue(behind.popleft())
        else:
            del self._queued_writes[input_id]

    async def apply_response(self, group: Batch[Want, WriteReceipt], answer: "ApiResponse") -> None:
        """Give each its own; an object that the batch did not find is tried singly, it may have been merged away."""
        told = self.parse_response(group, answer)
        for input_id, item in told.found.items():
            for ask in group[input_id]:
                ask.resolve(WriteReceipt(self.written_id(input_id, item), answer.correlation_id))
        again = list(told.unknown)
        for input_id, error in told.failed.items():
            if isinstance(error, ObjectNotFound) and not self.uses_plain_endpoint(group):
                again.append(input_id)
            else:
                await super().apply_error({input_id: group[input_id]}, error)
        await asyncio.gather(*(self.retry_alone({input_id: group[input_id]}) for input_id in again))

    async def apply_error(self, group: Batch[Want, WriteReceipt], error: CRMError) -> None:
        """Halve a batch that was refused as a whole; a transient failure is everybody's."""
        if len(group) == 1 and isinstance(error, ObjectNotFound) and not self.uses_plain_endpoint(group):
            await self.retry_alone(group)
            return
        if len(group) == 1 or not isinstance(error, InvalidRequest | ObjectNotFound | Conflict):
            await super().apply_error(group, error)
            return
        middle = len(group) // 2
        halves = (dict(islice(group.items(), middle)), dict(islice(group.items(), middle, None)))
        await asyncio.gather(*(self._retry_batch(half) for half in halves))

    def _enqueue(self, ask: Submission[Want, WriteReceipt]) -> None:
        if ask.id in self._queued_writes:
            self._queued_writes[ask.id].append(ask)
        else:
            self._queued_writes[ask.id] = deque()
            super()._enqueue(ask)

    async def _retry_batch(self, group: Batch[Want, WriteReceipt]) -> None:
        """Write once more for those who may still write when a place is there."""
        rest: dict[str, list[Submission[Want, WriteReceipt]]] = {}

        def close() -> ApiRequest | None:
            rest.update({input_id: asks for input_id, asks in group.items() if asks[0].is_still_wanted()})
            return self.build_request(rest) if rest else None

        try:
            answer = await self.client.send_when_granted(self.portal_id, close, "calls", batch_priority(group))
        except CRMError as error:
            await self.apply_error(rest or group, error)
        else:
            if answer:
                await self.apply_response(rest, answer)
