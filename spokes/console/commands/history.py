"""Every record of one event, as commands show it. Rule: the oldest first, names and ids, never values."""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.console.output import say, show_table, utc
from spokes.console.queries.descriptions import sentence
from spokes.console.queries.events import event
from spokes.console.queries.records import Recorded
from spokes.core.errors import AuditUnavailable
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings


def records_of(key: str) -> list[Recorded]:
    """Return every record of an event, the oldest first; none, and a sentence why, without the store."""
    settings = Settings.from_env()

    async def look() -> list[Recorded]:
        engine = open_engine(settings.database_address)
        try:
            await schema.require(engine)
            async with redis_client(settings) as redis:
                found = await event(redis, engine, None, key)
            return list(reversed(found.records)) if found else []
        finally:
            await engine.dispose()

    try:
        return asyncio.run(look())
    except AuditUnavailable as error:
        say(f"Its history cannot be shown: {error}")
        return []


def show_history(records: Iterable[Recorded]) -> None:
    """Print the records as a table."""
    show_table(("Time (UTC)", "What happened", "Try", "Handler", "HubSpot's id"), map(_line, records))


def _line(record: Recorded) -> tuple[object, ...]:
    return utc(record.at), sentence(record), record.attempt or "", record.handler, record.correlation_id


def as_told(record: Recorded) -> dict[str, object]:
    """Return a record for programs."""
    told = {name: value for name, value in asdict(record).items() if value not in ("", None)}
    return {"sentence": sentence(record), **told}
