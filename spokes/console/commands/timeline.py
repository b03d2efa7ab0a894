"""`timeline`: what happened to a CRM object, from the door to HubSpot. Rule: names and counts, never values."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from spokes.audit.object_hashes import pseudonym_key
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.console.output import AsJson, progress, say, show_json, show_table, utc
from spokes.console.queries.descriptions import because, sentence
from spokes.console.queries.objects import Reference, Thing
from spokes.console.queries.records import Recorded
from spokes.console.queries.timeline import Pending, Timeline
from spokes.console.queries.timeline import timeline as answer
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings


def timeline(
    reference: Annotated[
        list[str],
        typer.Argument(help="Its id, `contact 318845120771`, or its link from HubSpot."),
    ],
    limit: Annotated[int, typer.Option(help="How many of its records at most, the newest.", min=1, max=10_000)] = 200,
    after: Annotated[str | None, typer.Option(help="Go on where the page before ended, as it said.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show all that happened to a CRM object: received, decided, tried, written; and what of it still waits.

    Exit code 1 when nothing is known of it.

    Example: spokes timeline 318845120771
    Example: spokes timeline https://app.hubspot.com/contacts/50112233/record/0-1/318845120771
    """
    with progress("Looking in Redis and the store"):
        found = asyncio.run(_find(Settings.from_env(), Reference.from_text(" ".join(reference)), limit, after))
    if as_json:
        show_json(*map(_pending_json, found.pending), *map(_record_json, found.records), *_page_json(found))
    else:
        _show(found)
    if not found.records and not found.pending and found.erased_at is None:
        say("Nothing is known of it. An event that no handler claims leaves only a count in its delivery.")
        raise typer.Exit(1)


async def _find(settings: Settings, reference: Reference, limit: int, after: str | None) -> Timeline:
    engine = open_engine(settings.database_address)
    try:
        await schema.require(engine)
        async with redis_client(settings) as redis:
            key = pseudonym_key(settings.master_key())
            return await answer(redis, engine, None, reference, key=key, limit=limit, after=after)
    except ValueError:
        raise typer.BadParameter("is no place where a page ended", param_hint="--after") from None
    finally:
        await engine.dispose()


def _show(found: Timeline) -> None:
    for thing in found.things:
        say(f"{thing.object_type} {thing.object_id} of portal {thing.portal_id}{_others(thing)}")
    if found.erased_at is not None:
        say(f"It was erased at {utc(found.erased_at)}; the audit keeps a hash of its id.")
    if found.records:
        columns = ("Time (UTC)", "What happened", "Event", "Try", "Handler", "Event key")
        show_table(columns, map(_line, found.records))
    for pending in found.pending:
        event = pending.entry.event
        say(f"Waits until {utc(pending.job.due_at)}: {event.type}, tried {pending.entry.attempt} times.")
    for letter in found.letters:
        told = f"{because(letter.reason)}; `spokes dead replay {letter.entry.key} --reason ...` tries it again."
        say(f"A dead letter: {told}")
    if found.next:
        say(f"There are older records: --after {found.next} goes on, --limit shows more at once.")
    if found.truncated:
        say("More belongs here than is shown: name it by type and id, and look for writes with `spokes audit query`.")
    if found.unread:
        say("So much waits in Redis that not all of it was looked through.")


def _others(thing: Thing) -> str:
    others = [f"{one.object_id} was merged into it" for one in thing.others if one.direction == "from"]
    others += [f"it lives on as {one.object_id}" for one in thing.others if one.direction == "into"]
    return f" ({'; '.join(others)})" if others else ""


def _line(record: Recorded) -> tuple[object, ...]:
    time = f"{utc(record.at)}.{record.at % 1000:03d}"
    return time, sentence(record), record.subscription_type, record.attempt or "", record.handler, record.event_key


def _record_json(record: Recorded) -> dict[str, object]:
    told = {name: value for name, value in asdict(record).items() if value not in ("", None)}
    return {"kind": "record", "sentence": sentence(record), **told}


def _pending_json(pending: Pending) -> dict[str, object]:
    event = pending.entry.event
    return {
        "kind": "waits", "due_at": pending.job.due_at, "delivery_id": pending.job.delivery.id,
        "event_key": pending.entry.key, "subscription_type": event.subscription_type, "object_id": event.object_id,
        "attempt": pending.entry.attempt,
    }  # fmt: skip


def _page_json(found: Timeline) -> list[dict[str, object]]:
    told = {"next": found.next, "truncated": found.truncated, "unread": found.unread, "erased_at": found.erased_at}
    return [{"kind": "page", **told}] if any(told.values()) else []
