"""Say how much was worked off. Rule: one line in a while, never one an event or a delivery."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

import structlog

_EVERY_S: Final = 10.0
log = structlog.get_logger()


class Tally:
    """What one process has worked off since its last line."""

    def __init__(self) -> None:
        self._deliveries = 0
        self._outcomes: Counter[str] = Counter()
        self._told_at = 0.0

    def add(self, outcomes: Mapping[str, int]) -> None:
        """Count a delivery, by what became of its events."""
        self._deliveries += 1
        self._outcomes.update(outcomes)
        if time.monotonic() - self._told_at >= _EVERY_S:
            self.tell()

    def tell(self) -> None:
        """Write the line, if there is anything to say."""
        if self._deliveries:
            log.info("worked_off", deliveries=self._deliveries, **self._outcomes)
        self._deliveries = 0
        self._outcomes.clear()
        self._told_at = time.monotonic()
