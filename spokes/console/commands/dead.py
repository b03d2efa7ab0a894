"""`dead list|show|replay|discard`: events that could not be processed. Rule: every act has an actor and a reason.

Every record of one event, as commands show it. Rule: the oldest first, names and ids, never values.
"""

import asyncio
import getpass
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.console.output import (
    JsonOption,
    YesOption,
    confirm,
    format_utc,
    print_json,
    print_message,
    print_table,
    progress,
)
from spokes.console.queries.dead_letters import find_dead_letters
from spokes.console.queries.descriptions import describe, explain_reason
from spokes.console.queries.events import find_event
from spokes.console.queries.records import RecordView
from spokes.core.errors import AuditUnavailable
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from spokes.queue.dead_letters import DeadLetter, DeadLetters


def event_history(key: str) -> list[RecordView]:
    """Return every record of an event, the oldest first; none, and a sentence why, without the store."""
    settings = Settings.from_env()

    async def look() -> list[RecordView]:
        engine = open_engine(settings.database_address)
        try:
            await schema.require_current(engine)
            async with redis_client(settings) as redis:
                found = await find_event(redis, engine, None, key)
            return list(reversed(found.records)) if found else []
        finally:
            await engine.dispose()

    try:
        return asyncio.run(look())
    except AuditUnavailable as error:
        print_message(f"Its history cannot be shown: {error}")
        return []


def print_history(records: Iterable[RecordView]) -> None:
    """Print the records as a table."""
    print_table(("Time (UTC)", "What happened", "Try", "Handler", "HubSpot's id"), map(_history_row, records))


def _history_row(record: RecordView) -> tuple[object, ...]:
    return format_utc(record.at), describe(record), record.attempt or "", record.handler, record.correlation_id


def history_fields(record: RecordView) -> dict[str, object]:
    """Return a record for programs."""
    told = {name: value for name, value in asdict(record).items() if value not in ("", None)}
    return {"sentence": describe(record), **told}


app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at dead letters, and end them.")

_PAGE_SIZE: Final = 100  # letters between two steps of the bar

PortalOption = Annotated[int | None, typer.Option(help="Only of this portal.")]
CauseOption = Annotated[str | None, typer.Option(help="Only those that died of this, such as object_not_found.")]
HandlerOption = Annotated[str | None, typer.Option(help="Only of this handler, such as contacts.keep_reachable.")]
KeysArgument = Annotated[
    list[str] | None, typer.Argument(help="Event keys; all that the options choose when none is given.")
]
RequiredReasonOption = Annotated[str, typer.Option(help="Why; it stands in the audit.", prompt=True)]


@app.command(name="list")
def list_dead_letters(
    portal: PortalOption = None,
    cause: CauseOption = None,
    handler: HandlerOption = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 200,
    as_json: JsonOption = False,
) -> None:
    """Show what died, the newest first.

    Example: spokes dead list --cause object_not_found
    """
    found = _select(portal, cause, handler, None)
    found.sort(key=lambda letter: -letter.died_at)
    shown = [_letter_fields(letter) for letter in found[:limit]]
    if as_json:
        print_json(*shown)
    elif not shown:
        print_message("There are no dead letters.")
    else:
        columns = ("Died (UTC)", "Cause", "Tries", "Handler", "Type", "Object", "Portal", "Event key")
        names = ("reason", "attempt", "handler", "subscription_type", "object_id", "portal_id", "event_key")
        died = [format_utc(letter.died_at) for letter in found]
        print_table(columns, ((at, *(one[name] for name in names)) for at, one in zip(died, shown, strict=False)))
    if len(found) > limit:
        print_message(f"The newest {limit} of {len(found)} are shown; --limit shows more.")


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="An event key, from `dead list`.")], as_json: JsonOption = False
) -> None:
    """Show one dead letter and its whole history, the oldest first: tries, errors, writes, replays and their reasons.

    Names and ids, never values. Exit code 1 when there is no such dead letter.

    Example: spokes dead show 0f3a...
    """
    (letter,) = _select(None, None, None, [key]) or (None,)
    if letter is None:
        print_message(f"There is no dead letter {key}.")
        raise typer.Exit(1)
    history = event_history(key)
    if as_json:
        print_json(_letter_fields(letter) | {"history": [history_fields(record) for record in history]})
        return
    print_table(("Field", "Value"), (_letter_fields(letter) | {"reason": explain_reason(letter.reason)}).items())
    print_history(history)


@app.command()
def replay(
    reason: RequiredReasonOption,
    keys: KeysArgument = None,
    portal: PortalOption = None,
    cause: CauseOption = None,
    handler: HandlerOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Queue dead letters again, each as a new attempt of the same event.

    Exit code 1 when there is none, or when you do not confirm.

    Example: spokes dead replay --cause not_permitted --reason "scope granted"
    """
    _apply("replay", DeadLetters.replay, _select(portal, cause, handler, keys), reason, yes=yes, as_json=as_json)


@app.command()
def discard(
    reason: RequiredReasonOption,
    keys: KeysArgument = None,
    portal: PortalOption = None,
    cause: CauseOption = None,
    handler: HandlerOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """End dead letters for good; the audit keeps that they were.

    Exit code 1 when there is none, or when you do not confirm.

    Example: spokes dead discard --cause object_not_found --reason "deleted in HubSpot"
    """
    _apply("discard", DeadLetters.discard, _select(portal, cause, handler, keys), reason, yes=yes, as_json=as_json)


def _apply(
    verb: str,
    action: Callable[..., Coroutine[None, None, int]],
    selected: list[DeadLetter],
    reason: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    if not selected:
        print_message("There is no such dead letter.")
        raise typer.Exit(1)
    confirm(f"{verb.capitalize()} {len(selected)} dead letters?", yes=yes)
    count = asyncio.run(_apply_in_pages(action, selected, reason, verb))
    if as_json:
        print_json({"done": verb, "count": count})
    else:
        print(f"{count} dead letters: {verb} done.")
    if count < len(selected):
        print_message(f"{len(selected) - count} were gone by then: somebody else has ended them.")


async def _apply_in_pages(
    action: Callable[..., Coroutine[None, None, int]], chosen: list[DeadLetter], reason: str, verb: str
) -> int:
    count = 0
    async with redis_client(Settings.from_env()) as redis:
        with progress(verb.capitalize(), len(chosen)) as bar:
            for first in range(0, len(chosen), _PAGE_SIZE):
                page = chosen[first : first + _PAGE_SIZE]
                count += await action(DeadLetters(redis), page, actor=getpass.getuser(), reason=reason)
                bar.update(first + len(page))
    return count


def _select(portal: int | None, cause: str | None, handler: str | None, keys: Sequence[str] | None) -> list[DeadLetter]:
    """Return the dead letters that the options choose."""
    portals = None if portal is None else frozenset({portal})

    async def choose() -> list[DeadLetter]:
        async with redis_client(Settings.from_env()) as redis:
            found = find_dead_letters(redis, portals, reason=cause, handler=handler, keys=keys or ())
            return [letter async for letter in found]

    return asyncio.run(choose())


def _letter_fields(letter: DeadLetter) -> dict[str, object]:
    """What may be shown of a dead letter: names and ids, never values."""
    event = letter.entry.event
    return {
        "event_key": letter.entry.key,
        "died_at": letter.died_at,
        "reason": letter.reason,
        "attempt": letter.entry.attempt,
        "handler": letter.handler,
        "delivery_id": letter.delivery_id,
        "portal_id": letter.portal_id,
        "event_id": event.event_id,
        "subscription_type": event.subscription_type,
        "property_name": event.property_name,
        "object_type": event.object_type,
        "object_id": event.object_id,
        "occurred_at": event.occurred_at,
    }
