"""Run: one run of one delivery. Rule: every event of it is accounted for exactly once, and then the delivery ends."""

import asyncio
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from spokes.core.delivery import Delivery
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import canonical
from workers.delivery import settlement_steps as steps
from workers.delivery.lanes import Work
from workers.delivery.resolution import SUSPECTED, Verdict
from workers.delivery.settlement import Settlement

if TYPE_CHECKING:
    from spokes.audit.records import Outcome
    from spokes.crm.services import Write


class Run:
    """What one run has come to so far.

    Raises:
        UnreadableDelivery: an entry is no longer an event.
    """

    def __init__(self, delivery: Delivery, settlement: Settlement, settings: Settings, *, crash_loop: bool) -> None:
        self.delivery = delivery
        self.crash_loop = crash_loop
        self.outcomes: dict[Outcome, int] = {}
        self.tally = settlement.tally
        self.works = [Work(self, entry, entry.event) for entry in delivery.entries]
        self._settlement = settlement
        self._settings = settings
        self._left = len(self.works)
        self._later: dict[str, steps.Later] = {}  # by reason: a short wait is not held up by a long one
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self.works:
            self._account()

    def end(
        self,
        work: Work,
        verdict: Verdict,
        handler: str = "",
        writes: "Sequence[Write]" = (),
        news: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Settle an event, or have it tried again together with those that wait for the same reason."""
        ended = steps.Ended(work, verdict, handler, writes, news)
        self._count(ended)
        if self._settings.log_level == "DEBUG":
            canonical("event", _line(self.delivery, ended), level="debug")
        if verdict.delay_s is None:
            days, hours = self._settings.dead_letter_days, self._settings.dedupe_hours
            for step in steps.end(self.delivery, ended, dead_letter_s=days * 86_400, newest_s=hours * 3600):
                self._settlement.step(step)
        else:
            self._later.setdefault(verdict.reason, steps.Later()).add(ended)
        self._left -= 1
        if not self._left:
            self._account()

    def put_off(self, works: Iterable[Work], verdict: Verdict) -> None:
        """Have events tried again that were not run at all."""
        for work in works:
            work.run.end(work, verdict)

    def drop(self, count: int) -> None:
        """Leave out events that an earlier run has settled."""
        self._left -= count
        if count and not self._left:
            self._account()

    def scatter(self, settled: Container[str], tries: int) -> None:
        """Have each event that is not settled tried in a delivery of its own, which counts as tried so often."""
        for work in self.works:
            if work.entry.key in settled:
                continue
            ended, later = steps.Ended(work, SUSPECTED), steps.Later()
            later.add(ended)
            self._count(ended)
            self._settlement.step(steps.postpone(self.delivery, later, tries=tries))
        self._account()

    async def ended(self) -> bool:
        """Wait for all events; return False when another worker has a hand in the delivery and it must stay queued."""
        try:
            return await self._ended
        finally:
            self.works.clear()  # each of them names its run: a circle, which only the garbage collector would find

    def _count(self, ended: steps.Ended) -> None:
        outcome = ended.verdict.outcome
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.tally.ended(ended.handler, ended.verdict, ended.work.event.occurred_at)

    def _account(self) -> None:
        for later in self._later.values():
            self._settlement.step(steps.postpone(self.delivery, later))
        self._later.clear()
        self._settlement.end(self.delivery, self._ended)


def _line(delivery: Delivery, ended: steps.Ended) -> dict[str, object]:
    """What the one line of an event tells; an event that is tried again has a line for each run."""
    event, verdict = ended.work.event, ended.verdict
    return {
        "event_key": ended.work.entry.key, "delivery_id": delivery.id, "portal_id": event.portal_id,
        "event_id": event.event_id, "type": event.subscription_type, "object_id": event.object_id,
        "handler": ended.handler, "outcome": verdict.outcome.value, "reason": verdict.reason,
        "attempt": ended.attempt, "writes": len(ended.writes),
        "lag_s": round(time.time() - event.occurred_at / 1000, 3),
    }  # fmt: skip
