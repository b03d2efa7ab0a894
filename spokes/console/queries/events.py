"""One event through all its attempts. Rule: it stands where its newest record says, archived or not."""

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import Filters
from spokes.audit.sql.tables import RECORDS
from spokes.console.queries.dead_letters import letters
from spokes.console.queries.portal_scope import Portals, sees, within
from spokes.console.queries.queue import Waiting, look_up
from spokes.console.queries.records import Page, Recorded, newest, search
from spokes.console.queries.unarchived import together, unarchived

_MOST: Final = 1_000  # records of one event; one that is parked every few seconds for days has more


@dataclass(frozen=True, slots=True, kw_only=True)
class EventAnswer:
    """One event: its records, the newest first; where it waits, if it does; whether its dead letter is kept."""

    key: str
    records: tuple[Recorded, ...]
    waiting: Waiting | None
    is_dead: bool

    @property
    def state(self) -> str:
        """Its newest outcome; `waiting` before it has any."""
        return next((record.outcome for record in self.records if record.action == Action.EVENT), "waiting")


async def events(
    engine: AsyncEngine, portals: Portals, filters: Filters, *, limit: int = 50, after: str | None = None
) -> Page[Recorded]:
    """Return the outcomes that match, the newest first; see `records.search`.

    Raises:
        ValueError: `after` is no such place.
        AuditUnavailable: the store does not answer.
    """
    return await search(engine, portals, filters, limit=limit, after=after)


async def event(redis: Redis, engine: AsyncEngine, portals: Portals, key: str) -> EventAnswer | None:
    """Return one event by its key, None when nothing is known of it.

    Raises:
        AuditUnavailable, RedisError, OSError: who knows does not answer.
    """
    fresh = await unarchived(redis)
    stored = await newest(engine, [RECORDS.c.event_key == key, *within(portals)], _MOST)
    records = together(
        [record for record in fresh.naming(key) if record.event_key == key and sees(portals, record.portal_id)], stored
    )
    if not records:
        return None
    ids = [str(moved) for record in records if (moved := record.detail.get("moved_to"))]
    ids += [record.delivery_id for record in records if record.delivery_id]
    jobs = await look_up(redis, list(dict.fromkeys(ids)))
    waits = [job for job in jobs if any(entry.key == key for entry in job.delivery.entries)]
    dead = [letter async for letter in letters(redis, frozenset({records[0].portal_id}), keys=(key,))]
    return EventAnswer(key=key, records=records, waiting=waits[0] if waits else None, is_dead=bool(dead))
