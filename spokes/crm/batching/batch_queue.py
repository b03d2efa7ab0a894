"""Batch queues: many callers, one call of HubSpot.

A batch is closed only when its rate-limit slot is granted; until then further submissions join it. It takes
interactive inputs first and fills up with those of imports. Each caller waits for its own result, so a cancelled caller
does not affect the others.

In a `WriteBatchQueue` the writes of one object keep their order: no two of them are in flight together. HubSpot refuses
a whole batch for one bad input and then applies nothing of it, so the batch is halved until only the bad input fails.
Inputs that a batch response leaves unknown are retried alone. Inputs that a batch response refuses for now, such as
locked records, are sent once more after a pause; the others of the batch do not wait for them.

A transient failure of a whole call is every caller's error, and is not retried here. Only if HubSpot fails the batch
with an error of its own, one input may be the cause: inputs of events that failed before are sent again, each alone.
"""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Final, Generic

from spokes.core.clock import wait_for_stop
from spokes.core.errors import (
    DAILY_POLICY,
    Conflict,
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    ObjectLocked,
    ObjectNotFound,
    ProxyRefusal,
    RateLimited,
)
from spokes.core.priority import PRIORITIES, Priority
from spokes.core.telemetry.metrics import BATCH_CALLERS, BATCH_INPUTS, BATCHES
from spokes.crm.batching.batch_results import BatchResults
from spokes.crm.batching.queue_pace import QueuePace
from spokes.crm.batching.submissions import Batch, Payload, Result, Submission, batch_priority
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import UNCHECKED, ApiRequest, PacedClient, SendContext
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.rate_budget import CallKind
from spokes.crm.transport.response_json import Json

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

LINGER_S: Final = 0.005  # how long the first submission of a batch waits for others

_GAP_HOLDS_S: Final = 0.1  # for which a timer trusts the pause: other queues begin and end
_TIMER_SLACK_S: Final = 0.001
_RESOLVED_AT_ONCE: Final = 10  # inputs: their handlers run on before the event loop does anything else
_REFUSED_PAUSE_S: Final = 0.5  # before an input that was refused for now is sent once more
_HALVED: Final = (InvalidRequest, ObjectNotFound, Conflict, ProxyRefusal)  # refusals of a batch for one input
_LOCKED_PAUSE_S: Final = 2.0  # HubSpot's docs, "Error handling" (423)


class BatchQueue(ABC, Generic[Payload, Result]):
    """Gathers submissions that may share a call; submissions with the same id share one input."""

    operation: ClassVar[str]  # label of the batch metrics
    kind: CallKind = "calls"
    max_inputs = 100  # inputs of a batch; HubSpot's docs, "Using Object APIs"

    def __init__(self, client: PacedClient, portal_id: int, *, linger_s: float = LINGER_S) -> None:
        self.client = client
        self.portal_id = portal_id
        self._linger_s = linger_s
        self._waiting: dict[str, list[Submission[Payload, Result]]] = {}
        self._interactive: dict[str, None] = {}  # the waiting inputs with an interactive submission, in their order
        self._pending_batches: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)  # batches that wait for a slot
        self._timers: dict[Priority, asyncio.TimerHandle] = {}  # of batches that are not full
        self._id = secrets.token_hex(4)
        self._paces: dict[Priority, QueuePace] = {priority: QueuePace() for priority in PRIORITIES}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = asyncio.Event()

    @abstractmethod
    def build_request(self, batch: Batch[Payload, Result]) -> ApiRequest:
        """Return the request for a batch."""

    @abstractmethod
    async def apply_response(self, batch: Batch[Payload, Result], response: "ApiResponse") -> None:
        """Resolve or reject every submission of a batch."""

    @abstractmethod
    async def send_again(self, batch: Batch[Payload, Result]) -> None:
        """Send some inputs of a batch again, and resolve or reject their submissions."""

    def may_repeat(self, error: CRMError) -> bool:
        """Return whether an input that a batch response refused with this error is sent once more."""
        if isinstance(error, RateLimited):
            return error.policy != DAILY_POLICY
        return isinstance(error, ObjectLocked | CRMUnavailable)

    async def apply_refusal(
        self, input_id: str, submissions: list[Submission[Payload, Result]], error: CRMError
    ) -> None:
        """Handle one input that a batch response refused: send it once more after a pause, or reject it."""
        if submissions[0].is_repeated or not self.may_repeat(error):
            await BatchQueue.apply_error(self, {input_id: submissions}, error)
            return
        for submission in submissions:
            submission.is_repeated = True
        pause_s = _LOCKED_PAUSE_S if isinstance(error, ObjectLocked) else _REFUSED_PAUSE_S
        self._start_task(self._send_again_later({input_id: submissions}, pause_s))

    async def apply_error(self, batch: Batch[Payload, Result], error: CRMError) -> None:
        """Handle a call that failed as a whole: reject every submission."""
        for submissions in batch.values():
            for submission in submissions:
                submission.reject(error)

    def meaning_of(self, error: CRMError) -> CRMError:
        """Return what the error of a call as a whole means for its submissions."""
        return error

    def input_done(self, input_id: str) -> None:
        """Called when no submission of this input is in flight any more."""

    def submit(
        self, input_id: str, payload: Payload, context: SendContext = UNCHECKED["interactive"]
    ) -> "asyncio.Future[Result]":
        """Add one input to the next batch; return the future of its result.

        Its errors are CRMError if the call failed, and LeaseLost from `context.before_send`, called when the batch is
        closed.
        """
        submission: Submission[Payload, Result] = Submission(input_id, payload, context)
        self._enqueue(submission)
        return submission.future

    async def send_read(self, batch: Batch[Payload, Result], request: ApiRequest) -> "ApiResponse":
        """Make one more call for a batch, which only reads."""
        return await self.client.send(self.portal_id, request, "calls", UNCHECKED[batch_priority(batch)])

    def is_idle(self) -> bool:
        """Return whether a new queue could take this one's place: nothing waits, is sent, or is still to be paced."""
        is_busy = self._tasks or self._timers or self._waiting
        now = asyncio.get_running_loop().time()
        return not is_busy and not any(pace.batches_ahead(now, self._gap_s(each)) for each, pace in self._paces.items())

    async def close(self) -> None:
        """Wait until every submission is resolved or rejected."""
        self._is_closing.set()
        while self._tasks or self._timers:
            for priority, timer in list(self._timers.items()):
                timer.cancel()
                self._timer_elapsed(priority)
            await asyncio.gather(*self._tasks)
            await asyncio.sleep(0)  # a finished task leaves the set in the next iteration of the loop

    def _enqueue(self, submission: Submission[Payload, Result]) -> None:
        """Put a submission into the next batch, and make sure that there is one."""
        self._waiting.setdefault(submission.input_id, []).append(submission)
        priority = submission.context.priority
        if priority == "interactive":
            self._interactive[submission.input_id] = None
        self._paces[priority].input_added(asyncio.get_running_loop().time())
        unclaimed = self._unclaimed_inputs(priority)
        if unclaimed >= self.max_inputs:
            self._start_batch(priority)
        elif unclaimed > 0 and priority not in self._timers:
            self._start_timer(priority, self._linger_s)

    def _unclaimed_inputs(self, priority: Priority) -> int:
        """Return how many inputs exceed the pending batches, which take `max_inputs` each."""
        unclaimed = -self.max_inputs * self._pending_batches["interactive"]
        if priority == "interactive":
            return unclaimed + len(self._interactive)
        return unclaimed + len(self._waiting) - self.max_inputs * self._pending_batches["import"]

    def _start_timer(self, priority: Priority, at_least_s: float) -> None:
        """Let a batch that is not full leave once the queue's pause after its last batch is over."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = max(self._paces[priority].due(now, self._gap_s(priority)), now + at_least_s)
        self._timers[priority] = loop.call_at(min(due, now + _GAP_HOLDS_S), self._timer_elapsed, priority)

    def _timer_elapsed(self, priority: Priority) -> None:
        del self._timers[priority]
        if self._unclaimed_inputs(priority) <= 0:
            return
        now = asyncio.get_running_loop().time()
        is_due = self._paces[priority].due(now, self._gap_s(priority)) <= now + _TIMER_SLACK_S
        if is_due or self._is_closing.is_set():
            self._start_batch(priority)
        else:
            self._start_timer(priority, _TIMER_SLACK_S)

    def _gap_s(self, priority: Priority) -> float:
        return self.client.batch_gap_s(self.portal_id, self.kind, priority)

    def _start_batch(self, priority: Priority) -> None:
        self._pending_batches[priority] += 1
        self._start_task(self._send_batch(priority))

    def _start_task(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_batch(self, priority: Priority) -> None:
        batch: Batch[Payload, Result] | None = None
        inputs = 0

        def take_batch_and_build_request() -> ApiRequest | None:
            nonlocal batch, inputs
            batch = self._take_batch(priority)
            if not batch:
                return None
            inputs = len(batch)
            self._paces[priority].batch_left(asyncio.get_running_loop().time(), self._gap_s(priority), inputs)
            self._count(batch)
            request = self.build_request(batch)
            self.client.inputs_sent(inputs)
            return request

        try:
            try:
                response = await self.client.send_when_granted(
                    self.portal_id, take_batch_and_build_request, self.kind, priority, self._id
                )
            finally:
                self.client.inputs_answered(inputs)
        except CRMError as error:
            if batch is None:  # no slot was granted: calls are paused for longer than callers wait
                batch = self._take_batch(priority)
            await self._apply_failure(batch, self.meaning_of(error))
        else:
            if batch and response:
                await self.apply_response(batch, response)
        finally:
            self._finish_batch(batch or {})

    async def _apply_failure(self, batch: Batch[Payload, Result], error: CRMError) -> None:
        """Handle a call that failed as a whole; inputs of events that failed before are sent again, each alone."""
        repeated: Batch[Payload, Result] = {}
        if len(batch) > 1 and _may_be_for_one_input(error):
            repeated = {i: batch[i] for i in batch if any(s.context.has_failed_before for s in batch[i])}
        others = {i: batch[i] for i in batch if i not in repeated}
        if others or not batch:
            await self.apply_error(others, error)
        await asyncio.gather(*(self.send_again({i: repeated[i]}) for i in repeated))

    async def _send_again_later(self, batch: Batch[Payload, Result], pause_s: float) -> None:
        try:
            await wait_for_stop(self._is_closing, pause_s)
            await self.send_again(batch)
        finally:
            for input_id, submissions in batch.items():
                self._finish_input(input_id, submissions)

    def _finish_batch(self, batch: Batch[Payload, Result]) -> None:
        for input_id, submissions in batch.items():
            if not submissions[0].is_repeated:  # else `_send_again_later` finishes it
                self._finish_input(input_id, submissions)

    def _finish_input(self, input_id: str, submissions: list[Submission[Payload, Result]]) -> None:
        for submission in submissions:
            if not submission.future.done():
                submission.reject(CRMUnavailable())  # no caller waits for ever
        self.input_done(input_id)

    def _take_batch(self, priority: Priority) -> Batch[Payload, Result]:
        """Remove and return the first inputs that a caller still wants, interactive ones first."""
        self._pending_batches[priority] -= 1
        batch: dict[str, list[Submission[Payload, Result]]] = {}
        for input_id in [*self._interactive, *(i for i in self._waiting if i not in self._interactive)]:
            if len(batch) == self.max_inputs:
                break
            self._interactive.pop(input_id, None)
            wanted = [submission for submission in self._waiting.pop(input_id) if submission.is_still_wanted()]
            if wanted:
                batch[input_id] = wanted
            else:
                self.input_done(input_id)
        return batch

    def _count(self, batch: Batch[Payload, Result]) -> None:
        BATCHES.labels(self.operation).inc()
        BATCH_INPUTS.labels(self.operation).inc(len(batch))
        BATCH_CALLERS.labels(self.operation).inc(sum(map(len, batch.values())))


def _may_be_for_one_input(error: CRMError) -> bool:
    """Return whether HubSpot may have failed a batch because of one input: an error of its own, or an odd answer."""
    is_answer = error.status == 500 or 200 <= error.status < 300  # noqa: PLR2004 - HTTP's own numbers
    return isinstance(error, CRMUnavailable) and is_answer


async def in_chunks(results: Mapping[str, Json]) -> AsyncIterator[tuple[tuple[str, Json], ...]]:
    """Iterate over the results of a batch, a few at a time, and let the event loop run after each few.

    Otherwise all handlers of a full batch run on in one iteration of the loop, and an interactive event waits for them.
    """
    items = iter(results.items())
    while chunk := tuple(islice(items, _RESOLVED_AT_ONCE)):
        yield chunk
        if len(chunk) == _RESOLVED_AT_ONCE:
            await asyncio.sleep(0)


class WriteBatchQueue(BatchQueue[Payload, WriteReceipt]):
    """Writes objects of one type."""

    def __init__(
        self, client: PacedClient, portal_id: int, paths: Paths, object_type: str, *, linger_s: float = LINGER_S
    ) -> None:
        super().__init__(client, portal_id, linger_s=linger_s)
        self.paths = paths
        self.object_type = object_type
        # By the id of an object with a write in flight: the writes that wait for it.
        self._queued_writes: dict[str, deque[Submission[Payload, WriteReceipt]]] = {}

    @abstractmethod
    def parse_response(self, batch: Batch[Payload, WriteReceipt], response: "ApiResponse") -> BatchResults:
        """Return the result of each input; for a batch of one, none may be unknown."""

    def written_id(self, input_id: str, item: Json) -> str:
        """Return the id of the object that an input wrote to."""
        del item
        return input_id

    def uses_plain_endpoint(self, batch: Batch[Payload, WriteReceipt]) -> bool:
        """Return whether a batch is sent to the single-object endpoint, which follows merges."""
        return len(batch) == 1

    async def retry_alone(self, batch: Batch[Payload, WriteReceipt]) -> None:
        """Write one object whose id the batch endpoint did not find."""
        await self.send_again(batch)

    def input_done(self, input_id: str) -> None:
        """Start the next write of the same object."""
        queued = self._queued_writes[input_id]
        if queued:
            super()._enqueue(queued.popleft())
        else:
            del self._queued_writes[input_id]

    async def apply_response(self, batch: Batch[Payload, WriteReceipt], response: "ApiResponse") -> None:
        """Resolve or reject each input; one that the batch did not find is retried alone: it may have been merged."""
        results = self.parse_response(batch, response)
        async for chunk in in_chunks(results.found):
            for input_id, item in chunk:
                for submission in batch[input_id]:
                    submission.resolve(WriteReceipt(self.written_id(input_id, item), response.correlation_id))
        retried = list(results.unknown)
        for input_id, error in results.failed.items():
            if isinstance(error, ObjectNotFound) and not self.uses_plain_endpoint(batch):
                retried.append(input_id)
            else:
                await self.apply_refusal(input_id, batch[input_id], error)
        await asyncio.gather(*(self.retry_alone({input_id: batch[input_id]}) for input_id in retried))

    async def apply_error(self, batch: Batch[Payload, WriteReceipt], error: CRMError) -> None:
        """Halve a batch that was refused as a whole; a transient failure is every caller's error."""
        if len(batch) == 1 and isinstance(error, ObjectNotFound) and not self.uses_plain_endpoint(batch):
            await self.retry_alone(batch)
            return
        if len(batch) == 1 or not isinstance(error, _HALVED):
            await super().apply_error(batch, error)
            return
        middle = len(batch) // 2
        halves = (dict(islice(batch.items(), middle)), dict(islice(batch.items(), middle, None)))
        await asyncio.gather(*(self.send_again(half) for half in halves))

    def _enqueue(self, submission: Submission[Payload, WriteReceipt]) -> None:
        if submission.input_id in self._queued_writes:
            self._queued_writes[submission.input_id].append(submission)
        else:
            self._queued_writes[submission.input_id] = deque()
            super()._enqueue(submission)

    async def send_again(self, batch: Batch[Payload, WriteReceipt]) -> None:
        """Send a batch again, without the submissions that are no longer wanted once a slot is granted."""
        wanted: dict[str, list[Submission[Payload, WriteReceipt]]] = {}

        def build_request() -> ApiRequest | None:
            wanted.update({input_id: batch[input_id] for input_id in batch if batch[input_id][0].is_still_wanted()})
            return self.build_request(wanted) if wanted else None

        try:
            response = await self.client.send_when_granted(
                self.portal_id, build_request, "calls", batch_priority(batch)
            )
        except CRMError as error:
            await self.apply_error(wanted or batch, self.meaning_of(error))
        else:
            if response:
                await self.apply_response(wanted, response)
