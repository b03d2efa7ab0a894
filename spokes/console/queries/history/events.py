"""One event through all its attempts. Its newest record, archived or not, determines its state."""

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import TERMINAL, Action, Outcome, settled_key
from spokes.audit.sql.queries import Filters
from spokes.audit.sql.tables import RECORDS
from spokes.console.queries.dead_letters import find_dead_letters
from spokes.console.queries.history.records import Page, RecordView, newest_records, search_records
from spokes.console.queries.history.redeliveries import find_redeliveries
from spokes.console.queries.history.unarchived import load_unarchived, merge_with_stored
from spokes.console.queries.portal_scope import Portals, can_see, portal_filter
from spokes.console.queries.queue import WaitingDelivery, find_waiting
from spokes.core.delivery import Entry

_MAX_RECORDS: Final = 1_000  # an event parked every few seconds for days has more


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDetails:
    """One event: its records, newest first; its delivery if it waits; whether it is a dead letter.

    An event with several handlers is dead if it is for one of them. The key of one of its entries shows that handler.
    """

    key: str
    records: tuple[RecordView, ...]
    waiting: WaitingDelivery | None
    is_dead: bool

    @property
    def state(self) -> str:
        """The newest outcome, `waiting` before the first; of several handlers, that of one which is not done."""
        outcomes = {"": "waiting"} if not self.handler_states else self.handler_states
        unfinished = [outcome for outcome in outcomes.values() if outcome not in TERMINAL]
        dead = [outcome for outcome in outcomes.values() if outcome == Outcome.DEAD]
        return next(iter((*dead, *unfinished, *outcomes.values())))

    @property
    def handler_states(self) -> dict[str, str]:
        """The newest outcome by handler, for an event with several; otherwise the newest outcome alone."""
        newest: dict[str, str] = {}
        for record in self.records:
            if record.action == Action.EVENT and record.outcome != Outcome.DUPLICATE:
                newest.setdefault(settled_key("", record.handler, record.detail), record.outcome)
        return {key.removeprefix("."): outcome for key, outcome in newest.items()}


async def search_events(
    engine: AsyncEngine, portals: Portals, filters: Filters, *, limit: int = 50, after: str | None = None
) -> Page[RecordView]:
    """Return a page of matching outcomes, newest first; see `records.search_records`.

    Raises:
        ValueError: `after` is not a cursor.
        AuditUnavailable: the store does not answer.
    """
    return await search_records(engine, portals, filters, limit=limit, after=after)


def is_of_event(entry: Entry, key: str) -> bool:
    """Return whether an entry is of an event; the key of one of several handlers' entries means this entry."""
    event_key, _, handler = key.partition(".")
    return entry.event_key == event_key and (not handler or entry.handler in {"", handler})


async def find_event(redis: Redis, engine: AsyncEngine, portals: Portals, key: str) -> EventDetails | None:
    """Return one event by its key, None if no record of it exists.

    The key of one of several handlers' entries returns what concerns this handler.

    Raises:
        AuditUnavailable, RedisError, OSError: the audit store or Redis does not answer.
    """
    event_key, _, handler = key.partition(".")
    conditions = [RECORDS.c.event_key == event_key, *portal_filter(portals)]
    if handler:
        conditions.append(RECORDS.c.handler == handler)
    unarchived = await load_unarchived(redis)
    stored = await newest_records(engine, conditions, _MAX_RECORDS)
    records = merge_with_stored(
        [
            record
            for record in unarchived.records_naming(event_key)
            if record.event_key == event_key and handler in {"", record.handler} and can_see(portals, record.portal_id)
        ],
        stored,
    )
    if not records:
        return None
    redelivered = await find_redeliveries(engine, unarchived, portals, {event_key}, since=records[-1].at)
    records = merge_with_stored(redelivered, records)
    ids = [str(moved) for record in records if (moved := record.detail.get("moved_to"))]
    ids += [record.delivery_id for record in records if record.delivery_id]
    jobs = await find_waiting(redis, list(dict.fromkeys(ids)))
    waiting = [job for job in jobs if any(is_of_event(entry, key) for entry in job.delivery.entries)]
    dead = [letter async for letter in find_dead_letters(redis, frozenset({records[0].portal_id}), keys=(key,))]
    return EventDetails(key=key, records=records, waiting=waiting[0] if waiting else None, is_dead=bool(dead))
