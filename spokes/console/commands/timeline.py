"""`timeline`: what happened to a CRM object, from the door to HubSpot. Rule: names and counts, never values."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from spokes.audit.object_hashes import object_hash_key
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table, progress
from spokes.console.queries.descriptions import describe, explain_reason
from spokes.console.queries.objects import MatchedObject, Reference
from spokes.console.queries.records import RecordView
from spokes.console.queries.timeline import PendingEvent, Timeline
from spokes.console.queries.timeline import load_timeline as answer
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings


def timeline(
    reference: Annotated[
        list[str],
        typer.Argument(help="Its id, `contact 318845120771`, or its link from HubSpot."),
    ],
    limit: Annotated[int, typer.Option(help="How many of its records at most, the newest.", min=1, max=10_000)] = 200,
    after: Annotated[str | None, typer.Option(help="Go on where the page before ended, as it said.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that happened to a CRM object: received, decided, tried, written; and what of it still waits.

    Exit code 1 when nothing is known of it.

    Example: spokes timeline 318845120771
    Example: spokes timeline https://app.hubspot.com/contacts/50112233/record/0-1/318845120771
    """
    with progress("Looking in Redis and the store"):
        found = asyncio.run(_find_timeline(Settings.from_env(), Reference.from_text(" ".join(reference)), limit, after))
    if as_json:
        print_json(*map(_pending_json, found.pending), *map(_record_json, found.records), *_page_json(found))
    else:
        _print_timeline(found)
    if not found.records and not found.pending and found.erased_at is None:
        print_message("Nothing is known of it. An event that no handler claims leaves only a count in its delivery.")
        raise typer.Exit(1)


async def _find_timeline(settings: Settings, reference: Reference, limit: int, after: str | None) -> Timeline:
    engine = open_engine(settings.database_address)
    try:
        await schema.require_current(engine)
        async with redis_client(settings) as redis:
            key = object_hash_key(settings.master_key())
            return await answer(redis, engine, None, reference, hash_key=key, limit=limit, after=after)
    except ValueError:
        raise typer.BadParameter("is no place where a page ended", param_hint="--after") from None
    finally:
        await engine.dispose()


def _print_timeline(found: Timeline) -> None:
    for thing in found.objects:
        print_message(f"{thing.object_type} {thing.object_id} of portal {thing.portal_id}{_merge_note(thing)}")
    if found.erased_at is not None:
        print_message(f"It was erased at {format_utc(found.erased_at)}; the audit keeps a hash of its id.")
    if found.records:
        columns = ("Time (UTC)", "What happened", "Event", "Try", "Handler", "Event key")
        print_table(columns, map(_record_row, found.records))
    for pending in found.pending:
        event = pending.entry.event
        print_message(
            f"Waits until {format_utc(pending.job.due_at)}: {event.type}, tried {pending.entry.attempt} times."
        )
    for letter in found.letters:
        told = f"{explain_reason(letter.reason)}; `spokes dead replay {letter.entry.key} --reason ...` tries it again."
        print_message(f"A dead letter: {told}")
    if found.next:
        print_message(f"There are older records: --after {found.next} goes on, --limit shows more at once.")
    if found.truncated:
        print_message(
            "More belongs here than is shown: name it by type and id, and look for writes with `spokes audit query`."
        )
    if found.incomplete:
        print_message("So much waits in Redis that not all of it was looked through.")


def _merge_note(thing: MatchedObject) -> str:
    others = [f"{one.object_id} was merged into it" for one in thing.others if one.direction == "from"]
    others += [f"it lives on as {one.object_id}" for one in thing.others if one.direction == "into"]
    return f" ({'; '.join(others)})" if others else ""


def _record_row(record: RecordView) -> tuple[object, ...]:
    time = f"{format_utc(record.at)}.{record.at % 1000:03d}"
    return time, describe(record), record.subscription_type, record.attempt or "", record.handler, record.event_key


def _record_json(record: RecordView) -> dict[str, object]:
    told = {name: value for name, value in asdict(record).items() if value not in ("", None)}
    return {"kind": "record", "sentence": describe(record), **told}


def _pending_json(pending: PendingEvent) -> dict[str, object]:
    event = pending.entry.event
    return {
        "kind": "waits", "due_at": pending.job.due_at, "delivery_id": pending.job.delivery.id,
        "event_key": pending.entry.key, "subscription_type": event.subscription_type, "object_id": event.object_id,
        "attempt": pending.entry.attempt,
    }  # fmt: skip


def _page_json(found: Timeline) -> list[dict[str, object]]:
    told = {"next": found.next, "truncated": found.truncated, "unread": found.incomplete, "erased_at": found.erased_at}
    return [{"kind": "page", **told}] if any(told.values()) else []
