"""How much expensive work may run at a time, for one actor and in total."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from spokes.core.errors import HttpProblem

_RETRY_AFTER_S: Final = 10


class WorkLimit:
    """Counts what runs of one kind."""

    def __init__(self, *, per_actor: int, total: int) -> None:
        self._per_actor = per_actor
        self._total = total
        self._running: Counter[str] = Counter()

    @contextmanager
    def running(self, actor: str) -> Iterator[None]:
        """Count one piece of work of `actor` while the block runs.

        Raises:
            HttpProblem: 429, the actor's own are too many; 503, all together are.
        """
        if self._running[actor] >= self._per_actor:
            detail = "Too many requests of this kind run for you already. Wait for one to end."
            raise HttpProblem(429, "too_many_running", detail, retry_after_s=_RETRY_AFTER_S)
        if self._running.total() >= self._total:
            detail = "Too many requests of this kind run already. Try again shortly."
            raise HttpProblem(503, "too_many_running", detail, retry_after_s=_RETRY_AFTER_S)
        self._running[actor] += 1
        try:
            yield
        finally:
            self._running[actor] -= 1
            self._running += Counter()  # forget actors without any


class WorkLimits:
    """The limits of one console process."""

    def __init__(self) -> None:
        self.verifications = WorkLimit(per_actor=1, total=2)
        self.exports = WorkLimit(per_actor=2, total=4)
        self.streams = WorkLimit(per_actor=10, total=50)


WORK_LIMITS: Final = web.AppKey("work_limits", WorkLimits)
