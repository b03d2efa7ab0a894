"""One run of one delivery: its items, their outcomes, and when it is finished."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from spokes.audit.records import Outcome
from spokes.core import clock
from spokes.core.delivery import Delivery, new_delivery_id
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import log_canonical_line
from workers.delivery import settlement_steps as steps
from workers.delivery.settlement import Settlement
from workers.handlers import entries
from workers.lanes.lanes import WorkItem
from workers.lanes.resolution import WORKER_DIED, Resolution

if TYPE_CHECKING:
    from spokes.crm.services import WriteRecord
    from spokes.routing import Router


class DeliveryRun:
    """Accounts for every item of a delivery exactly once, then closes the delivery.

    The delivery is closed in the same event-loop iteration as its last step, so both share one settle.lua call, which
    then does not store the keys of settled events. Closing it later would cost each delivery one more call and a set
    in Redis.

    Raises:
        UnreadableDelivery: an entry is not an event.
    """

    def __init__(self, delivery: Delivery, settlement: Settlement, settings: Settings, router: "Router") -> None:
        self.delivery = delivery
        self.crash_loop = False  # whether the events of this run have killed too many workers
        # The tries in which workers died while they held the delivery: an event that moves on untried takes them along.
        self.failed_tries = 0
        self.outcomes: dict[Outcome, int] = {}
        self.items = entries.open_items(self, delivery.entries, router)
        self._router = router
        self._metrics = settlement.metrics
        self._settlement = settlement
        self._settings = settings
        self._remaining = len(self.items)
        # By what they wait for, and the bit length of the delay in seconds: others extend a wait to its double at most.
        self._postponed: dict[tuple[str, str, int], steps.Postponement] = {}
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
        """Settle an event, or postpone it together with those that wait for the same reason; the first call counts."""
        if item.is_resolved:
            return
        resolved = steps.ResolvedEvent(item, resolution, handler or item.handler, writes, applied)
        at_ms = clock.now_ms()
        self._count(resolved, at_ms)
        if self._settings.log_level == "DEBUG":
            log_canonical_line("event", _log_fields(self.delivery, resolved, at_ms), level="debug")
        if resolution.delay_s is None:
            days, hours = self._settings.dead_letter_days, self._settings.dedupe_hours
            for step in steps.final_steps(
                self.delivery,
                resolved,
                at_ms,
                new_delivery_id,
                dead_letter_ttl_s=days * 86_400,
                newest_ttl_s=hours * 3600,
            ):
                self._settlement.add_step(step)
        else:
            group = (resolution.reason, resolution.waits_for_calls, int(resolution.delay_s).bit_length())
            self._postponed.setdefault(group, steps.Postponement()).add(resolved)
        item.is_resolved = True
        self._remaining -= 1
        if not self._remaining:
            self._close()

    def is_settled(self, item: WorkItem, settled: Collection[str]) -> bool:
        """Return whether an earlier run settled the item."""
        return entries.is_settled(item.entry, item.event, settled, self._router)

    def skip_settled(self, count: int) -> None:
        """Leave out events that an earlier run settled."""
        self._remaining -= count
        if count and not self._remaining:
            self._close()

    def resolve_unsettled(self, settled: Collection[str], resolution: Resolution) -> None:
        """Resolve every event alike, except those that an earlier run settled; no handler is called."""
        unsettled = [item for item in self.items if not self.is_settled(item, settled)]
        self.skip_settled(len(self.items) - len(unsettled))
        for item in unsettled:
            self.resolve(item, resolution)

    def split(self, settled: Collection[str], tries: int) -> None:
        """Move each unsettled item into a delivery of its own, which starts with that many tries."""
        for item in self.items:
            if self.is_settled(item, settled):
                continue
            resolved, postponement = steps.ResolvedEvent(item, WORKER_DIED, item.handler), steps.Postponement()
            postponement.add(resolved)
            self._count(resolved, clock.now_ms())
            self._postpone(postponement, tries=tries)
        self._close()

    def fail(self, error: Exception) -> None:
        """End the run with an error, because one of its events cannot be resolved; the delivery stays queued."""
        if not self._closed.done():
            self._closed.set_exception(error)

    async def finished(self) -> bool:
        """Wait until the delivery is closed; return False if another worker holds it and it stays queued.

        Raises:
            Exception: what `fail` was called with, or a step was refused.
        """
        try:
            return await self._closed
        finally:
            self.items.clear()  # each refers to its run: a cycle, which only the garbage collector would free

    def _count(self, resolved: steps.ResolvedEvent, at_ms: int) -> None:
        outcome = resolved.resolution.outcome
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self._metrics.event_resolved(resolved.handler, resolved.resolution, at_ms - resolved.item.event.occurred_at)

    def _close(self) -> None:
        try:
            for postponement in self._postponed.values():
                is_untried = all(resolved.resolution.outcome is Outcome.PARKED for resolved in postponement.events)
                self._postpone(postponement, tries=self.failed_tries if is_untried else 0)
        except Exception as error:  # noqa: BLE001 - the caller resolves other deliveries' events too
            self.fail(error)
            return
        self._postponed.clear()
        self._settlement.close_delivery(self.delivery, self._closed)

    def _postpone(self, postponement: steps.Postponement, *, tries: int = 0) -> None:
        moved_id = new_delivery_id(self.delivery.portal_id)
        self._settlement.add_step(
            steps.postpone_step(self.delivery, postponement, clock.now_ms(), moved_id, tries=tries)
        )


def postpone(items: Iterable[WorkItem], resolution: Resolution) -> None:
    """Postpone events whose handler was not called."""
    for item in items:
        item.delivery_run.resolve(item, resolution)


def _log_fields(delivery: Delivery, resolved: steps.ResolvedEvent, at_ms: int) -> dict[str, object]:
    """Return the fields of an event's log line; a retried event has one line per run."""
    event, resolution = resolved.item.event, resolved.resolution
    return {
        "event_key": resolved.item.entry.event_key, "delivery_id": delivery.id, "portal_id": event.portal_id,
        "event_id": event.event_id, "type": event.subscription_type, "object_id": event.object_id,
        "handler": resolved.handler, "outcome": resolution.outcome.value, "reason": resolution.reason,
        "attempt": resolved.attempt, "writes": len(resolved.writes),
        "lag_s": round((at_ms - event.occurred_at) / 1000, 3),
    }  # fmt: skip
