"""Deliveries: what a request brought, and what became of it. Rule: counts come from records, never from guesses."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import Filters, fetch
from spokes.audit.sql.tables import RECORDS
from spokes.console.queries.portal_scope import Portals, can_see, portal_filter
from spokes.console.queries.queue import WaitingDelivery, find_waiting
from spokes.console.queries.records import Page, RecordView, newest_records, search_records
from spokes.console.queries.unarchived import load_unarchived


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySummary:
    """What the door made of one request for one portal; `ignored` counts by subscription type."""

    id: str
    portal_id: int
    at: int
    received: int
    admitted: int
    duplicate: int
    ignored: Mapping[str, int]
    quarantined: int

    @classmethod
    def from_record(cls, record: RecordView) -> "DeliverySummary":
        """Read the record that opens a delivery's history."""
        told = record.detail
        ignored = told.get("ignored")
        return cls(
            id=record.delivery_id, portal_id=record.portal_id, at=record.at, received=_count(told, "received"),
            admitted=_count(told, "admitted"), duplicate=_count(told, "duplicate"),
            ignored=ignored if isinstance(ignored, dict) else {}, quarantined=_count(told, "set_aside"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDetails:
    """One delivery: how it was received (None for one that only tries events again), what became of its events."""

    id: str
    received: DeliverySummary | None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    waiting: WaitingDelivery | None = None


async def search_deliveries(
    engine: AsyncEngine, portals: Portals, *, since: int | None = None, until: int | None = None, limit: int = 50,
    after: str | None = None,
) -> Page[DeliverySummary]:  # fmt: skip
    """Return what was received, the newest first; see `records.search` for the pages.

    Raises:
        ValueError: `after` is no such place.
        AuditUnavailable: the store does not answer.
    """
    filters = Filters(action=Action.DELIVERY_RECEIVED, since=since, until=until)
    page = await search_records(engine, portals, filters, limit=limit, after=after)
    return Page(tuple(DeliverySummary.from_record(head) for head in page.items), page.next)


async def find_delivery(
    redis: Redis, engine: AsyncEngine, portals: Portals, delivery_id: str
) -> DeliveryDetails | None:
    """Return one delivery, None when nothing is known of it.

    Raises:
        AuditUnavailable, RedisError, OSError: who knows does not answer.
    """
    jobs = [job for job in await find_waiting(redis, [delivery_id]) if can_see(portals, job.delivery.portal_id)]
    fresh = await load_unarchived(redis)
    of_it = [RECORDS.c.delivery_id == delivery_id, *portal_filter(portals)]
    head = await newest_records(engine, [*of_it, RECORDS.c.action == Action.DELIVERY_RECEIVED], 1)
    head += [
        record
        for record in fresh.records_naming(delivery_id)
        if record.action == Action.DELIVERY_RECEIVED and record.delivery_id == delivery_id
        and can_see(portals, record.portal_id)
    ]  # fmt: skip
    query = (
        select(RECORDS.c.outcome, func.count().label("count"))
        .where(*of_it, RECORDS.c.action == Action.EVENT)
        .group_by(RECORDS.c.outcome)
    )
    outcomes = {str(row["outcome"]): int(row["count"] or 0) for row in await fetch(engine, query)}
    if not head and not jobs and not outcomes:
        return None
    received = DeliverySummary.from_record(head[0]) if head else None
    return DeliveryDetails(id=delivery_id, received=received, outcomes=outcomes, waiting=jobs[0] if jobs else None)


def _count(detail: Mapping[str, object], name: str) -> int:
    value = detail.get(name)
    return value if isinstance(value, int) else 0
