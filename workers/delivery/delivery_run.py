"""Run: one run of one delivery. Rule: every event of it is accounted for exactly once, and then the delivery ends."""

import asyncio
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from spokes.core.delivery import Delivery
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import log_canonical_line
from workers.delivery import settlement_steps as steps
from workers.delivery.lanes import WorkItem
from workers.delivery.resolution import WORKER_DIED, Resolution
from workers.delivery.settlement import Settlement

if TYPE_CHECKING:
    from spokes.audit.records import Outcome
    from spokes.crm.services import WriteRecord


class DeliveryRun:
    """What one run has come to so far.

    Raises:
        UnreadableDelivery: an entry is no longer an event.
    """

    def __init__(self, delivery: Delivery, settlement: Settlement, settings: Settings, *, crash_loop: bool) -> None:
        self.delivery = delivery
        self.crash_loop = crash_loop
        self.outcomes: dict[Outcome, int] = {}
        self.metrics = settlement.metrics
        self.items = [WorkItem(self, entry, entry.event) for entry in delivery.entries]
        self._settlement = settlement
        self._settings = settings
        self._remaining = len(self.items)
        self._postponed: dict[str, steps.Postponement] = {}  # by reason: a short wait is not held up by a long one
        self._closed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self.items:
            self._close()

    def resolve(
        self,
        item: WorkItem,
        resolution: Resolution,
        handler: str = "",
        writes: "Sequence[WriteRecord]" = (),
        applied: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Settle an event, or have it tried again together with those that wait for the same reason."""
        ended = steps.ResolvedEvent(item, resolution, handler, writes, applied)
        self._count(ended)
        if self._settings.log_level == "DEBUG":
            log_canonical_line("event", _log_fields(self.delivery, ended), level="debug")
        if resolution.delay_s is None:
            days, hours = self._settings.dead_letter_days, self._settings.dedupe_hours
            for step in steps.final_steps(
                self.delivery, ended, dead_letter_ttl_s=days * 86_400, newest_ttl_s=hours * 3600
            ):
                self._settlement.add_step(step)
        else:
            self._postponed.setdefault(resolution.reason, steps.Postponement()).add(ended)
        self._remaining -= 1
        if not self._remaining:
            self._close()

    def postpone(self, items: Iterable[WorkItem], resolution: Resolution) -> None:
        """Have events tried again that were not run at all."""
        for work in items:
            work.delivery_run.resolve(work, resolution)

    def skip_settled(self, count: int) -> None:
        """Leave out events that an earlier run has settled."""
        self._remaining -= count
        if count and not self._remaining:
            self._close()

    def split(self, settled: Container[str], tries: int) -> None:
        """Have each event that is not settled tried in a delivery of its own, which counts as tried so often."""
        for work in self.items:
            if work.entry.key in settled:
                continue
            ended, later = steps.ResolvedEvent(work, WORKER_DIED), steps.Postponement()
            later.add(ended)
            self._count(ended)
            self._settlement.add_step(steps.postpone_step(self.delivery, later, tries=tries))
        self._close()

    async def finished(self) -> bool:
        """Wait for all events; return False when another worker has a hand in the delivery and it must stay queued."""
        try:
            return await self._closed
        finally:
            self.items.clear()  # each of them names its run: a circle, which only the garbage collector would find

    def _count(self, resolved: steps.ResolvedEvent) -> None:
        outcome = resolved.resolution.outcome
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.metrics.event_resolved(resolved.handler, resolved.resolution, resolved.item.event.occurred_at)

    def _close(self) -> None:
        for later in self._postponed.values():
            self._settlement.add_step(steps.postpone_step(self.delivery, later))
        self._postponed.clear()
        self._settlement.close_delivery(self.delivery, self._closed)


def _log_fields(delivery: Delivery, resolved: steps.ResolvedEvent) -> dict[str, object]:
    """What the one line of an event tells; an event that is tried again has a line for each run."""
    event, verdict = resolved.item.event, resolved.resolution
    return {
        "event_key": resolved.item.entry.key, "delivery_id": delivery.id, "portal_id": event.portal_id,
        "event_id": event.event_id, "type": event.subscription_type, "object_id": event.object_id,
        "handler": resolved.handler, "outcome": verdict.outcome.value, "reason": verdict.reason,
        "attempt": resolved.attempt, "writes": len(resolved.writes),
        "lag_s": round(time.time() - event.occurred_at / 1000, 3),
    }  # fmt: skip
