"""When a batch that is not full leaves its queue, given the pause between batches. Pure: times are arguments.

A queue sends a batch a pause at an even pace, and may be one batch ahead of it. It counts in pauses, not in seconds, so
a pause that becomes shorter also ends sooner for a batch that waits.

A queue whose waiting added nothing to its last batch pauses a little shorter. Writes follow reads. If both paused
equally long, a write that once comes too early for its queue would come too early in every pause, and would wait each
time, although nothing joins it: the next inputs are those of the next read. With a shorter pause, writes catch up.
"""

from typing import Final

_AHEAD: Final = 1.0  # batches
_MOST_AHEAD: Final = 3.0  # batches; full batches do not pause, and a pause after them need not make up for all
_SHORTER: Final = 0.85  # pause after a batch whose waiting added nothing
_USELESS_SHARE: Final = 0.7  # of a batch's waiting, at its end, in which no input came


class QueuePace:
    """The pace of one queue; all times in seconds on one monotonic clock."""

    __slots__ = ("_ahead", "_first_input_at", "_last_input_at", "_left_at", "_was_wait_useless")

    def __init__(self) -> None:
        self._ahead = 0.0  # batches sent beyond an even pace, when the last one left
        self._left_at = 0.0
        self._first_input_at: float | None = None  # of the inputs since then
        self._last_input_at = 0.0
        self._was_wait_useless = False

    def input_added(self, now: float) -> None:
        """Take note of an input that waits."""
        self._last_input_at = now
        if self._first_input_at is None:
            self._first_input_at = now

    def due(self, now: float, gap_s: float) -> float:
        """Return when the next batch may leave; `now` or earlier if it may at once.

        Args:
            now: on the clock of all times.
            gap_s: the pause between two batches.
        """
        return now + (self.batches_ahead(now, gap_s) - _AHEAD) * self._own(gap_s)

    def batch_left(self, now: float, gap_s: float, inputs: int) -> None:
        """Take note of a batch that leaves with so many inputs."""
        self._ahead = min(self.batches_ahead(now, gap_s) + (gap_s > 0.0), _MOST_AHEAD)
        self._left_at = now
        if inputs > 1 and self._first_input_at is not None:
            waited_s, without_input_s = now - self._first_input_at, now - self._last_input_at
            self._was_wait_useless = without_input_s > _USELESS_SHARE * waited_s
        self._first_input_at = None

    def batches_ahead(self, now: float, gap_s: float) -> float:
        """Return how many batches more than at an even pace were sent."""
        if gap_s <= 0.0:
            return 0.0
        return max(self._ahead - (now - self._left_at) / self._own(gap_s), 0.0)

    def _own(self, gap_s: float) -> float:
        return gap_s * _SHORTER if self._was_wait_useless else gap_s
