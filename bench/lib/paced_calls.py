"""A simulation of batch queues under one limit, on a clock of its own: no Redis, no waiting."""

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from spokes.crm.transport.pacing import BudgetUse, batch_gap_s

DAY_S: Final = 24 * 3600.0
_WINDOW_S: Final = 10.0


@dataclass
class PacedQueues:
    """Queues that each get every input, under one limit; the daily limit is renewed at the end of the day."""

    limit: int
    queues: int
    day_limit: int | None = None
    is_paced: bool = True


@dataclass
class PacedResult:
    """What happened: calls, calls that had to wait for a slot, and the waits of inputs in the first queue."""

    calls: int = 0
    waited_for_slots: int = 0
    waits: list[float] = field(default_factory=list)

    @property
    def median_wait_s(self) -> float:
        """The median wait of an input."""
        return median(self.waits)

    @property
    def p99_wait_s(self) -> float:
        """The wait that one input in a hundred exceeds."""
        return sorted(self.waits)[int(len(self.waits) * 0.99)]

    @property
    def longest_wait_s(self) -> float:
        """The longest wait of an input."""
        return max(self.waits)


def simulate(setup: PacedQueues, *, rate: float, seconds: float) -> PacedResult:
    """Submit an input to every queue `rate` times a second; a batch takes all inputs that wait."""
    result = PacedResult()
    window: deque[float] = deque()
    use: BudgetUse | None = None
    next_even = [0.0] * setup.queues
    waiting: list[list[float]] = [[] for _ in range(setup.queues)]
    now, arrived = 0.0, 0
    while now < seconds:
        while arrived / rate <= now:
            for inputs in waiting:
                inputs.append(arrived / rate)
            arrived += 1
        for number, inputs in enumerate(waiting):
            gap_s = batch_gap_s(use, now=now, window_s=_WINDOW_S) if setup.is_paced else 0.0
            if not inputs or next_even[number] - gap_s > now:
                continue
            while window and window[0] <= now - _WINDOW_S:
                window.popleft()
            if len(window) >= setup.limit:
                result.waited_for_slots += 1
                continue
            window.append(now)
            result.calls += 1
            left = None if setup.day_limit is None else setup.day_limit - result.calls
            use = BudgetUse(len(window), setup.limit, setup.queues, now, left, setup.day_limit, DAY_S - now)
            if setup.is_paced:
                next_even[number] = max(next_even[number], now) + batch_gap_s(use, now=now, window_s=_WINDOW_S)
            if number == 0:
                result.waits += [now - at for at in inputs]
            inputs.clear()
        now += 1 / rate if rate < 100 else 0.01
    return result
