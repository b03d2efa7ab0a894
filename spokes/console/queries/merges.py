"""Under which ids a CRM object has lived: what was merged into it, and what it was merged into.

Rule: the audit says it for as long as it is kept; Redis knows of merges that are not recorded yet.
"""

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.core.redis import keys

MOST: Final = 500  # ids; HubSpot refuses the 251st merge of one record
_HOPS: Final = 20


@dataclass(frozen=True, slots=True)
class Merged:
    """Another id of the same object: `into` it or merged away `from` it."""

    object_id: str
    direction: str


async def other_ids(
    redis: Redis, engine: AsyncEngine, portal_id: int, object_type: str, object_id: str
) -> tuple[Merged, ...]:
    """Return every other id that the object is known by, through merges of merges; `MOST` or more may not be all.

    Raises:
        AuditUnavailable, RedisError, OSError: who knows does not answer.
    """
    whose = (RECORDS.c.portal_id == portal_id, RECORDS.c.object_type == object_type)
    later = await _spread(engine, whose, {object_id}, forward=True)
    end = object_id
    for _ in range(_HOPS):
        told = await redis.get(keys.merged(portal_id, object_type, end))
        if told is None:
            break
        end = told.decode()
        later.add(end)
    later.discard(object_id)
    former = await _spread(engine, whose, {object_id, *later}, forward=False) - later - {object_id}
    return (
        *(Merged(name, "into") for name in sorted(later)),
        *(Merged(name, "from") for name in sorted(former)),
    )


async def _spread(
    engine: AsyncEngine, whose: tuple[ColumnElement[bool], ...], ids: set[str], *, forward: bool
) -> set[str]:
    """Follow recorded merges from `ids` on, towards survivors or away from them."""
    known, news = set(ids), set(ids)
    for _ in range(_HOPS):
        if not news or len(known) > MOST:
            break
        news = await _one_hop(engine, whose, news, forward=forward) - known
        known |= news
    return known


async def _one_hop(
    engine: AsyncEngine, whose: tuple[ColumnElement[bool], ...], ids: set[str], *, forward: bool
) -> set[str]:
    away = RECORDS.c.action == Action.OBJECT_MERGED
    merge = (RECORDS.c.action == Action.EVENT) & or_(
        RECORDS.c.subscription_type == "object.merge", RECORDS.c.subscription_type.endswith(".merge")
    )
    here, there = (away, merge) if forward else (merge, away)
    query = select(RECORDS.c.event_key).where(RECORDS.c.object_id.in_(sorted(ids)), *whose, here).limit(MOST)
    told = {row["event_key"] for row in await fetch(engine, query)} - {None}
    if not told:
        return set()
    query = select(RECORDS.c.object_id).where(RECORDS.c.event_key.in_(sorted(map(str, told))), *whose, there)
    return {str(row["object_id"]) for row in await fetch(engine, query.limit(MOST)) if row["object_id"]}
