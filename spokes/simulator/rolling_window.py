"""How many things fell into the last so many seconds, exactly. Rule: the caller tells the time."""

from collections import deque


class RollingWindow:
    """Counts of the last `window_s` seconds: a call at the very end of the window no longer counts."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.peak = 0  # the most that ever fell into one window
        self._moments: deque[float] = deque()

    def count(self, now_s: float) -> int:
        """How many were added within the window that ends at `now_s`."""
        oldest = now_s - self.window_s
        while self._moments and self._moments[0] <= oldest:
            self._moments.popleft()
        return len(self._moments)

    def add(self, now_s: float) -> int:
        """Add one, and return how many the window holds now."""
        self._moments.append(now_s)
        held = self.count(now_s)
        self.peak = max(self.peak, held)
        return held

    def wait_s(self, now_s: float) -> float:
        """Seconds until the oldest leaves the window."""
        return self._moments[0] + self.window_s - now_s if self._moments else 0.0
