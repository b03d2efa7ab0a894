"""How many log lines of one kind a minute may have; strangers cause as many as they like."""

import time


class LogLimit:
    """Counts the lines of the current minute."""

    def __init__(self, max_lines: int) -> None:
        """Allow `max_lines` a minute."""
        self._max_lines = max_lines
        self._minute = 0
        self._count = 0

    def is_exceeded(self) -> bool:
        """Count a line; return whether there were too many in this minute already."""
        minute = int(time.time()) // 60
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        return self._count > self._max_lines
