"""Deliveries: what a request brought, and what became of it. Rule: counts come from records, never from guesses."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import Filters, fetch
from spokes.audit.sql.tables import RECORDS
from spokes.console.queries.portal_scope import Portals, sees, within
from spokes.console.queries.queue import Waiting, look_up
from spokes.console.queries.records import Page, Recorded, newest, search
from spokes.console.queries.unarchived import unarchived


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What the door made of one request for one portal; `ignored` counts by subscription type."""

    id: str
    portal_id: int
    at: int
    received: int
    admitted: int
    duplicate: int
    ignored: Mapping[str, int]
    set_aside: int

    @classmethod
    def from_record(cls, head: Recorded) -> "Received":
        """Read the record that opens a delivery's history."""
        told = head.detail
        ignored = told.get("ignored")
        return cls(
            id=head.delivery_id, portal_id=head.portal_id, at=head.at, received=_count(told, "received"),
            admitted=_count(told, "admitted"), duplicate=_count(told, "duplicate"),
            ignored=ignored if isinstance(ignored, dict) else {}, set_aside=_count(told, "set_aside"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryAnswer:
    """One delivery: how it was received (None for one that only tries events again), what became of its events."""

    id: str
    received: Received | None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    waiting: Waiting | None = None


async def deliveries(
    engine: AsyncEngine, portals: Portals, *, since: int | None = None, until: int | None = None, limit: int = 50,
    after: str | None = None,
) -> Page[Received]:  # fmt: skip
    """Return what was received, the newest first; see `records.search` for the pages.

    Raises:
        ValueError: `after` is no such place.
        AuditUnavailable: the store does not answer.
    """
    filters = Filters(action=Action.DELIVERY_RECEIVED, since=since, until=until)
    page = await search(engine, portals, filters, limit=limit, after=after)
    return Page(tuple(Received.from_record(head) for head in page.items), page.next)


async def delivery(redis: Redis, engine: AsyncEngine, portals: Portals, delivery_id: str) -> DeliveryAnswer | None:
    """Return one delivery, None when nothing is known of it.

    Raises:
        AuditUnavailable, RedisError, OSError: who knows does not answer.
    """
    jobs = [job for job in await look_up(redis, [delivery_id]) if sees(portals, job.delivery.portal_id)]
    fresh = await unarchived(redis)
    of_it = [RECORDS.c.delivery_id == delivery_id, *within(portals)]
    head = await newest(engine, [*of_it, RECORDS.c.action == Action.DELIVERY_RECEIVED], 1)
    head += [
        record
        for record in fresh.naming(delivery_id)
        if record.action == Action.DELIVERY_RECEIVED and record.delivery_id == delivery_id
        and sees(portals, record.portal_id)
    ]  # fmt: skip
    query = (
        select(RECORDS.c.outcome, func.count().label("count"))
        .where(*of_it, RECORDS.c.action == Action.EVENT)
        .group_by(RECORDS.c.outcome)
    )
    outcomes = {str(row["outcome"]): int(row["count"] or 0) for row in await fetch(engine, query)}
    if not head and not jobs and not outcomes:
        return None
    received = Received.from_record(head[0]) if head else None
    return DeliveryAnswer(id=delivery_id, received=received, outcomes=outcomes, waiting=jobs[0] if jobs else None)


def _count(told: Mapping[str, object], name: str) -> int:
    value = told.get(name)
    return value if isinstance(value, int) else 0
