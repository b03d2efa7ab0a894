"""Find events that HubSpot delivered and that have no end: neither an outcome in the audit nor a job in Redis.

Something else has deleted their job: another program on this Redis, an eviction, a restore of an old backup.
"""

from typing import Any, Final

import orjson
from redis.asyncio import Redis
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.records import TERMINAL, Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from workers.queue.retry_delays import LONGEST_DELAY_S

_DAY_MS: Final = 86_400_000
_WINDOW_MS: Final = 3 * 3_600_000  # the watch runs every hour; a run may be late
_MAX_ROWS: Final = 5_000
_NAMED: Final = 5  # deliveries in the alert


async def watch_lost_events(settings: Settings, redis: Redis, engine: AsyncEngine, episodes: AlertEpisodes) -> None:
    """Alert about deliveries that have no end, longer ago than any retry takes.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    until_ms = clock.now_ms() - horizon_ms(settings)
    window = (RECORDS.c.at >= until_ms - _WINDOW_MS, RECORDS.c.at < until_ms)
    suspects = {
        str(row["delivery_id"]) for row in await fetch(engine, _without_outcome(window)) if _admitted_events(row)
    }
    suspects |= {
        moved_to for row in await fetch(engine, _last_record_is_no_end(window)) if (moved_to := _moved_to(row))
    }
    lost = [delivery_id for delivery_id in sorted(suspects) if not await _is_queued(redis, delivery_id)]
    await episodes.set_state(Alert.EVENTS_LOST, is_active=bool(lost), count=len(lost), deliveries=lost[:_NAMED])


def horizon_ms(settings: Settings) -> int:
    """Return how long an event may be in progress: the longest retry schedule and a day."""
    outage_s = settings.outage_retry_hours * 3600
    return round((sum(settings.retry_schedule_s) + outage_s + LONGEST_DELAY_S) * 1000) + _DAY_MS


def _without_outcome(window: tuple[Any, ...]) -> Select[Any]:
    """Select deliveries without any record of an event that was queued."""
    event = RECORDS.alias("event")
    of_delivery = select(event.c.seq).where(
        event.c.delivery_id == RECORDS.c.delivery_id, event.c.action == Action.EVENT, event.c.outcome.in_(_QUEUED_ENDS)
    )
    received = select(RECORDS.c.delivery_id, RECORDS.c.detail).where(
        *window, RECORDS.c.action == Action.DELIVERY_RECEIVED, ~of_delivery.exists()
    )
    return received.limit(_MAX_ROWS)


def _last_record_is_no_end(window: tuple[Any, ...]) -> Select[Any]:
    """Select events whose newest record moved them to a later delivery."""
    later = RECORDS.alias("later")
    newer = select(later.c.seq).where(
        later.c.event_key == RECORDS.c.event_key, later.c.action == Action.EVENT, later.c.seq > RECORDS.c.seq
    )
    moved = select(RECORDS.c.detail).where(
        *window, RECORDS.c.action == Action.EVENT, RECORDS.c.outcome.in_(("retried", "parked")), ~newer.exists()
    )
    return moved.limit(_MAX_ROWS)


_QUEUED_ENDS: Final = (*sorted(TERMINAL), "retried", "parked")


def _admitted_events(row: dict[str, Any]) -> int:
    count = orjson.loads(str(row["detail"] or "{}")).get("admitted", 0)
    return count if isinstance(count, int) else 0


def _moved_to(row: dict[str, Any]) -> str:
    return str(orjson.loads(str(row["detail"] or "{}")).get("moved_to", ""))


async def _is_queued(redis: Redis, delivery_id: str) -> bool:
    names = [prefix + delivery_id for prefix in (keys.JOB_KEY_PREFIX, keys.DEFAULT_JOB_KEY_PREFIX)]
    return bool(await redis.exists(*names))
