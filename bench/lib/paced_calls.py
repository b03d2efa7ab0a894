"""A simulation of batch queues of several workers under one limit, on a clock of its own: no Redis, no waiting.

Each event of a worker goes through its stages in turn, as a read and the write that follows it; each stage has a batch
queue of its own. The pause and the pace of a queue are the worker's own code, the counting of queues in use is that of
rate_budget.lua. While calls are scarce, one worker is preferred, as in claim.lua.
"""

import bisect
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from spokes.crm.batching.queue_pace import QueuePace
from spokes.crm.transport.pacing import RETURN_PARTS, BudgetUse, batch_gap_s

DAY_S: Final = 24 * 3600.0
_WINDOW_S: Final = 10.0
_MAX_INPUTS: Final = 100
_LINGER_S: Final = 0.005
_ADMISSION_S: Final = 0.003  # from the change to the handler's first call
_PREFERRED_S: Final = 1.0
_IN_USE_SHARES: Final = 4.5
_GAP_HOLDS_S: Final = 0.1
_SLACK_S: Final = 0.0005


@dataclass(frozen=True)
class PacedQueues:
    """Workers with a queue for each stage, under one limit; the daily limit is renewed at the end of the day."""

    limit: int
    workers: int = 1
    stages: int = 2
    day_limit: int | None = None
    is_paced: bool = True
    is_random: bool = False  # events come by chance, not evenly
    latency_s: float = 0.012  # of an answer, on the average
    seed: int = 1


@dataclass
class PacedResult:
    """What happened: times of calls, calls that had to wait for a slot, and waits from an event to its last call."""

    calls: list[float] = field(default_factory=list)
    waited_for_slots: int = 0
    waits: list[float] = field(default_factory=list)

    @property
    def median_wait_s(self) -> float:
        """The median wait of an event."""
        return median(self.waits)

    @property
    def p99_wait_s(self) -> float:
        """The wait that one event in a hundred exceeds."""
        return sorted(self.waits)[int(len(self.waits) * 0.99)]

    @property
    def longest_wait_s(self) -> float:
        """The longest wait of an event."""
        return max(self.waits)


def simulate(setup: PacedQueues, *, rate: float, seconds: float) -> PacedResult:
    """Let `rate` events a second happen for some seconds, and return what became of them."""
    return _Simulation(setup, rate, seconds).run()


class _Queue:
    """The batch queue of one stage of one worker; events are the times at which they happened."""

    def __init__(self, simulation: "_Simulation", worker: int, following: "_Queue | None") -> None:
        self.worker = worker
        self.pace = QueuePace()
        self._simulation = simulation
        self._following = following
        self._waiting: list[float] = []
        self._pending = 0
        self._has_timer = False

    def submit(self, event: float) -> None:
        self._waiting.append(event)
        self.pace.input_added(self._simulation.now)
        if self._unclaimed() >= _MAX_INPUTS:
            self._start()
        elif self._unclaimed() > 0 and not self._has_timer:
            self._start_timer(_LINGER_S)

    def submit_all(self, events: list[float]) -> None:
        for event in events:
            self.submit(event)

    def granted(self) -> None:
        self._pending -= 1
        batch, self._waiting = self._waiting[:_MAX_INPUTS], self._waiting[_MAX_INPUTS:]
        if batch:
            self.pace.batch_left(self._simulation.now, self._gap_s(), len(batch))
            self._simulation.batch_sent(batch, self._following)

    def _start_timer(self, at_least_s: float) -> None:
        now = self._simulation.now
        due = max(self.pace.due(now, self._gap_s()), now + at_least_s)
        self._has_timer = True
        self._simulation.call_at(min(due, now + _GAP_HOLDS_S), self._timer_elapsed)

    def _timer_elapsed(self) -> None:
        self._has_timer = False
        if self._unclaimed() <= 0:
            return
        if self.pace.due(self._simulation.now, self._gap_s()) <= self._simulation.now + _SLACK_S:
            self._start()
        else:
            self._start_timer(_SLACK_S)

    def _start(self) -> None:
        self._pending += 1
        self._simulation.request_slot(self)

    def _unclaimed(self) -> int:
        return len(self._waiting) - _MAX_INPUTS * self._pending

    def _gap_s(self) -> float:
        return self._simulation.gap_s(self.worker)


class _Simulation:
    def __init__(self, setup: PacedQueues, rate: float, seconds: float) -> None:
        self.now = 0.0
        self._setup = setup
        self._rate = rate
        self._seconds = seconds
        self._random = random.Random(setup.seed)
        self._result = PacedResult()
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._slots: deque[float] = deque()  # when they come back
        self._waiting_for_slots: deque[_Queue] = deque()
        self._granted_at: dict[int, float] = {}
        self._uses: dict[int, BudgetUse] = {}
        self._preferred, self._preferred_until = 0, -1.0
        self._first_stages: list[_Queue] = []
        for worker in range(setup.workers):
            stage: _Queue | None = None
            for _ in range(setup.stages):
                stage = _Queue(self, worker, stage)
            if stage:
                self._first_stages.append(stage)

    def run(self) -> PacedResult:
        self.call_at(0.0, self._event_happens)
        while self._calls:
            self.now, _, call = heapq.heappop(self._calls)
            call()
        return self._result

    def call_at(self, at: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._calls, (at, next(self._numbers), call))

    def gap_s(self, worker: int) -> float:
        return batch_gap_s(self._uses.get(worker), now=self.now, window_s=_WINDOW_S) if self._setup.is_paced else 0.0

    def request_slot(self, queue: _Queue) -> None:
        self._waiting_for_slots.append(queue)
        self._grant()

    def batch_sent(self, batch: list[float], following: _Queue | None) -> None:
        self._result.calls.append(self.now)
        if following is None:
            self._result.waits += [self.now - event for event in batch]
            return
        answered = self.now + self._setup.latency_s * self._random.uniform(0.7, 1.3)
        self.call_at(answered, lambda: following.submit_all(batch))

    def _event_happens(self) -> None:
        event, worker = self.now, self._claiming_worker()
        self.call_at(self.now + _ADMISSION_S, lambda: self._first_stages[worker].submit(event))
        pause_s = self._random.expovariate(self._rate) if self._setup.is_random else 1 / self._rate
        if self.now + pause_s < self._seconds:
            self.call_at(self.now + pause_s, self._event_happens)

    def _claiming_worker(self) -> int:
        is_preferred = self._preferred_until > self.now
        worker = self._preferred if is_preferred else self._random.randrange(self._setup.workers)
        if self.gap_s(worker) > 0:
            self._preferred, self._preferred_until = worker, self.now + _PREFERRED_S
        return worker

    def _grant(self) -> None:
        while self._slots and self._slots[0] <= self.now:
            self._slots.popleft()
        while self._waiting_for_slots and (due := self._next_slot_at()) <= self.now:
            queue = self._waiting_for_slots.popleft()
            self._granted_at[id(queue)] = self.now
            self._slots.append(self.now + _WINDOW_S + self._setup.latency_s)
            day_left = self._left_of_day()
            left = None if day_left is None else day_left - 1
            self._uses[queue.worker] = BudgetUse(
                len(self._slots), self._setup.limit, self._queues_in_use(left), self.now, left,
                self._setup.day_limit, DAY_S - self.now, self._returning(),
            )  # fmt: skip
            queue.granted()
        if self._waiting_for_slots:
            self._result.waited_for_slots += 1
            self.call_at(due, self._grant)

    def _returning(self) -> tuple[int, ...]:
        return tuple(bisect.bisect_right(self._slots, self.now + part * _WINDOW_S) for part in RETURN_PARTS)

    def _next_slot_at(self) -> float:
        if self._left_of_day() == 0:
            return DAY_S
        return self._slots[0] if len(self._slots) >= self._setup.limit else self.now

    def _left_of_day(self) -> int | None:
        if self._setup.day_limit is None or self.now >= DAY_S:
            return None
        return self._setup.day_limit - len(self._result.calls)

    def _queues_in_use(self, day_left: int | None) -> int:
        share = _WINDOW_S / self._setup.limit
        if day_left is not None and self._setup.day_limit and day_left < self._setup.day_limit * (1 - self.now / DAY_S):
            share = max(share, (DAY_S - self.now) / max(day_left, 1))
        ages = sorted(self.now - at for at in self._granted_at.values() if self.now - at < _WINDOW_S)
        in_use = 0
        while in_use < len(ages) and ages[in_use] <= _IN_USE_SHARES * max(in_use, 1) * share:
            in_use += 1
        return in_use
