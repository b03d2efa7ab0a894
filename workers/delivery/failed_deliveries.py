"""Deliveries that code of ours cannot run: each event becomes a dead letter, or the job is quarantined as it is.

A job that fails is tried a few times, and its events alone from then on (see workers/queue/crash_loops.py). What fails
all the same ends here.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.error_places import class_name
from spokes.queue.quarantine import Quarantine
from spokes.queue.unreadable_jobs import quarantine_entries, quarantine_job
from workers.delivery import settlement_steps as steps
from workers.handlers.entries import is_settled, split_entries
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd
from workers.queue.crash_loops import SUSPECT_FROM_TRY, settled_keys

if TYPE_CHECKING:
    from spokes.routing import Router
    from workers.delivery.settlement import Settlement

MAX_TRIES: Final = SUSPECT_FROM_TRY + 1  # of a job that fails: the last one ran its event alone
_DAY_S: Final = 86_400
log = structlog.get_logger()


async def set_unreadable_aside(redis: Redis, quarantine: Quarantine, delivery: Delivery) -> Delivery:
    """Quarantine the entries of a delivery that are no events; return the delivery with the others."""
    unreadable = tuple(entry for entry in delivery.entries if not entry.is_event)
    await quarantine_entries(redis, quarantine, delivery, unreadable)
    return replace(delivery, entries=tuple(entry for entry in delivery.entries if entry not in unreadable))


async def settle_failed_delivery(
    claimed: ClaimedJob, error: BaseException, *, redis: Redis, quarantine: Quarantine, settlement: "Settlement",
    router: "Router", dead_letter_days: int,
) -> DeliveryEnd:  # fmt: skip
    """Settle each event of a job that has failed too often as dead, or quarantine the job; alert in both cases."""
    fields: dict[str, Any] = {"delivery_id": claimed.id[:100], "tries": claimed.attempt, "error": class_name(error)}
    try:
        delivery = Delivery.from_job(claimed.argument)
        settled = await settled_keys(redis, delivery)
        for entry in split_entries(delivery.entries, router):
            if not _is_settled(entry, settled, router):
                settlement.add_step(
                    steps.internal_error_step(
                        delivery, entry, clock.now_ms(), dead_letter_ttl_s=dead_letter_days * _DAY_S
                    )
                )
        is_closed = await settlement.close_delivery(delivery)
    except Exception:
        log.exception("failed_delivery_set_aside", **fields)
        await quarantine_job(redis, quarantine, claimed.id, claimed.argument)
        return DeliveryEnd.UNREADABLE
    await AlertEpisodes(redis).report_once(Alert.INTERNAL_ERROR, portal_id=delivery.portal_id, **fields)
    return DeliveryEnd.CLOSED if is_closed else DeliveryEnd.HELD_ELSEWHERE


def _is_settled(entry: Entry, settled: Collection[str], router: "Router") -> bool:
    if not entry.is_event:
        return entry.key in settled
    return is_settled(entry, entry.event, settled, router)
