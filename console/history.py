"""Every record of one event, as commands show it. Rule: the oldest first, names and ids, never values."""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict

from audit import schema
from audit.store import open_engine
from console.answers.events import event
from console.answers.records import Recorded
from console.answers.sentences import sentence
from console.output import say, show_table, utc
from core.connections import redis_client
from core.errors import AuditUnavailable
from core.settings import Settings


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
