"""Deliveries and the outcomes of their events, counted from audit records."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, Outcome
from spokes.audit.sql.queries import Filters, fetch
from spokes.audit.sql.tables import RECORDS
from spokes.console.queries.history.records import Page, RecordView, newest_records, search_records
from spokes.console.queries.history.unarchived import load_unarchived
from spokes.console.queries.portal_scope import Portals, can_see, portal_filter
from spokes.console.queries.queue import WaitingDelivery, find_waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySummary:
    """What the receiver did with the events of one portal in one request, or in several that came at the same time.

    `ignored` counts by subscription type; `requests` are the ids of several requests.
    """

    id: str
    portal_id: int
    at: int
    received: int
    admitted: int
    duplicate: int
    ignored: Mapping[str, int]
    quarantined: int
    requests: tuple[str, ...] = ()

    @classmethod
    def from_record(cls, record: RecordView) -> "DeliverySummary":
        """Read a `delivery.received` record."""
        detail = record.detail
        ignored, requests = detail.get("ignored"), detail.get("requests")
        return cls(
            id=record.delivery_id, portal_id=record.portal_id, at=record.at, received=_count(detail, "received"),
            admitted=_count(detail, "admitted"), duplicate=_count(detail, "duplicate"),
            ignored=ignored if isinstance(ignored, dict) else {}, quarantined=_count(detail, "set_aside"),
            requests=tuple(map(str, requests)) if isinstance(requests, list) else (),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDetails:
    """One delivery: how it was received (None for one that only retries events), and the outcomes of its events."""

    id: str
    received: DeliverySummary | None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    waiting: WaitingDelivery | None = None


async def search_deliveries(
    engine: AsyncEngine, portals: Portals, *, since: int | None = None, until: int | None = None, limit: int = 50,
    after: str | None = None,
) -> Page[DeliverySummary]:  # fmt: skip
    """Return a page of received deliveries, newest first; see `records.search_records`.

    Raises:
        ValueError: `after` is not a cursor.
        AuditUnavailable: the store does not answer.
    """
    filters = Filters(action=Action.DELIVERY_RECEIVED, since=since, until=until)
    page = await search_records(engine, portals, filters, limit=limit, after=after)
    return Page(tuple(DeliverySummary.from_record(record) for record in page.items), page.next)


async def find_delivery(
    redis: Redis, engine: AsyncEngine, portals: Portals, delivery_id: str
) -> DeliveryDetails | None:
    """Return one delivery, None if neither queue nor audit contains it.

    Raises:
        AuditUnavailable, RedisError, OSError: the audit store or Redis does not answer.
    """
    jobs = [job for job in await find_waiting(redis, [delivery_id]) if can_see(portals, job.delivery.portal_id)]
    unarchived = await load_unarchived(redis)
    of_delivery = [RECORDS.c.delivery_id == delivery_id, *portal_filter(portals)]
    received = await newest_records(engine, [*of_delivery, RECORDS.c.action == Action.DELIVERY_RECEIVED], 1)
    received += [
        record
        for record in unarchived.records_naming(delivery_id)
        if record.action == Action.DELIVERY_RECEIVED and record.delivery_id == delivery_id
        and can_see(portals, record.portal_id)
    ]  # fmt: skip
    query = (
        select(RECORDS.c.outcome, func.count().label("count"))
        .where(*of_delivery, RECORDS.c.action == Action.EVENT)
        .group_by(RECORDS.c.outcome)
    )
    outcomes = {str(row["outcome"]): int(row["count"] or 0) for row in await fetch(engine, query)}
    if not received and not jobs and not outcomes:
        return None
    summary = DeliverySummary.from_record(received[0]) if received else None
    if summary and summary.duplicate:  # one record can stand for many
        outcomes[Outcome.DUPLICATE.value] = summary.duplicate
    return DeliveryDetails(id=delivery_id, received=summary, outcomes=outcomes, waiting=jobs[0] if jobs else None)


def _count(detail: Mapping[str, object], name: str) -> int:
    value = detail.get(name)
    return value if isinstance(value, int) else 0
