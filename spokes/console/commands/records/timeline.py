"""`timeline`: everything that happened to one CRM object, from receipt to HubSpot; names and counts, never values."""

import asyncio
from typing import Annotated

import typer

from spokes.audit.object_hashes import object_hash_key
from spokes.console.audit_store import open_audit_store
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table, progress
from spokes.console.queries.history.descriptions import describe, describe_as_json, explain_failure
from spokes.console.queries.history.objects import MatchedObject, Reference
from spokes.console.queries.history.records import RecordView
from spokes.console.queries.history.timeline import PendingEvent, Timeline, load_timeline
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings


def timeline(
    reference: Annotated[
        list[str],
        typer.Argument(help="The object: its id, type and id as in `contact 318845120771`, or its link in HubSpot."),
    ],
    limit: Annotated[int, typer.Option(help="Maximum number of records, the newest.", min=1, max=10_000)] = 200,
    after: Annotated[str | None, typer.Option(help="Show the next page; the page before prints the value.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything that happened to a CRM object: outcomes, attempts, writes and waiting events.

    Exit code 1 when nothing is known about the object.

    Example: spokes timeline 318845120771
    Example: spokes timeline https://app.hubspot.com/contacts/50112233/record/0-1/318845120771
    """
    with progress("Reading Redis and the audit store"):
        page = asyncio.run(_find_timeline(Settings.from_env(), Reference.from_text(" ".join(reference)), limit, after))
    if as_json:
        records = ({"kind": "record", **describe_as_json(record)} for record in page.records)
        print_json(*map(_pending_json, page.pending), *records, *_page_json(page))
    else:
        _print_timeline(page)
    if not page.records and not page.pending and page.erased_at is None:
        print_message(
            "Nothing is known about this object. An event without a handler leaves only a count in its delivery's "
            "record: `spokes handlers` shows which events have one."
        )
        raise typer.Exit(1)


async def _find_timeline(settings: Settings, reference: Reference, limit: int, after: str | None) -> Timeline:
    try:
        async with open_audit_store(settings) as engine, operator_redis(settings) as redis:
            hash_key = object_hash_key(load_master_key(settings))
            return await load_timeline(redis, engine, None, reference, hash_key=hash_key, limit=limit, after=after)
    except ValueError:
        raise typer.BadParameter("is not a value that a page has printed", param_hint="--after") from None


def _print_timeline(page: Timeline) -> None:
    for matched in page.objects:
        print_message(f"{matched.object_type} {matched.object_id} of portal {matched.portal_id}{_merge_note(matched)}")
    if page.erased_at is not None:
        print_message(f"It was erased at {format_utc(page.erased_at)}; the audit keeps a hash of its id.")
    if page.records:
        columns = ("Time (UTC)", "What happened", "Event", "Attempt", "Handler", "Event key")
        print_table(columns, map(_record_row, page.records))
    for pending in page.pending:
        event = pending.entry.event
        print_message(
            f"Waits until {format_utc(pending.job.due_at)}: {event.type}{_of_handler(pending)}, "
            f"attempts so far: {pending.entry.attempt}."
        )
    for letter in page.letters:
        print_message(
            f"Dead letter of {letter.handler or 'no handler'}: {explain_failure(letter.reason, letter.failure)}; "
            f"`spokes dead replay {letter.entry.key} --reason ...` tries it again."
        )
    if page.next:
        print_message(f"There are older records: --after {page.next} shows the next page, --limit makes pages longer.")
    if page.truncated:
        print_message(
            "Not all records of this object are shown. Name it by type and id, and find its writes with "
            "`spokes audit query`."
        )
    if page.incomplete:
        print_message("Redis holds too many waiting deliveries to search them all: some may be missing here.")


def _of_handler(pending: PendingEvent) -> str:
    return f" for {pending.entry.handler}" if pending.entry.handler else ""


def _merge_note(matched: MatchedObject) -> str:
    notes = [f"{other.object_id} was merged into it" for other in matched.others if other.direction == "from"]
    notes += [f"merged into {other.object_id}" for other in matched.others if other.direction == "into"]
    return f" ({'; '.join(notes)})" if notes else ""


def _record_row(record: RecordView) -> tuple[object, ...]:
    time = f"{format_utc(record.at)}.{record.at % 1000:03d}"
    return time, describe(record), record.subscription_type, record.attempt or "", record.handler, record.event_key


def _pending_json(pending: PendingEvent) -> dict[str, object]:
    event = pending.entry.event
    return {
        "kind": "waits", "due_at": pending.job.due_at, "delivery_id": pending.job.delivery.id,
        "event_key": pending.entry.event_key, "handler": pending.entry.handler,
        "subscription_type": event.subscription_type, "object_id": event.object_id, "attempt": pending.entry.attempt,
    }  # fmt: skip


def _page_json(page: Timeline) -> list[dict[str, object]]:
    fields = {
        "next": page.next, "truncated": page.truncated, "incomplete": page.incomplete, "erased_at": page.erased_at
    }  # fmt: skip
    return [{"kind": "page", **fields}] if any(fields.values()) else []
