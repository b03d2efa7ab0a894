"""`dead list|show|replay|discard`: dead letters, the events that failed for good. Every action is audited."""

import asyncio
import getpass
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Annotated, Final

import typer

from spokes.console.audit_store import open_audit_store
from spokes.console.commands.queue import quarantined_contents
from spokes.console.operator_redis import operator_redis
from spokes.console.output import (
    JsonOption,
    RequiredReasonOption,
    YesOption,
    confirm,
    format_utc,
    print_json,
    print_message,
    print_table,
    progress,
)
from spokes.console.queries.dead_letters import find_dead_letters
from spokes.console.queries.history.descriptions import describe, describe_as_json, explain_failure
from spokes.console.queries.history.events import find_event
from spokes.console.queries.history.records import RecordView
from spokes.core.errors import AuditUnavailable
from spokes.core.settings import Settings
from spokes.queue.dead_letters import DeadLetter, DeadLetters

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Show, replay or discard dead letters: events that failed for good and are kept until an operator acts.",
)

_PAGE_SIZE: Final = 100  # dead letters between two steps of the progress bar

PortalOption = Annotated[int | None, typer.Option(help="Only dead letters of this portal.", min=1)]
CauseOption = Annotated[str | None, typer.Option(help="Only dead letters with this reason, such as object_not_found.")]
HandlerOption = Annotated[
    str | None, typer.Option(help="Only dead letters of this handler, such as contacts.keep_reachable.")
]
KeysArgument = Annotated[
    list[str] | None, typer.Argument(help="Event keys; default: all dead letters that the options select.")
]
QuarantinedOption = Annotated[
    bool, typer.Option("--quarantined", help="Select elements and bodies that were unreadable when they arrived.")
]


@app.command(name="list")
def list_dead_letters(
    portal: PortalOption = None,
    cause: CauseOption = None,
    handler: HandlerOption = None,
    limit: Annotated[int, typer.Option(help="Maximum number of dead letters.", min=1)] = 200,
    is_quarantined: QuarantinedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show dead letters, newest first: events that failed for good and wait for an operator.

    Example: spokes dead list --cause object_not_found
    """
    if is_quarantined:
        quarantined_contents.print_list(portal, cause, limit=limit, as_json=as_json)
        return
    selected = _select(portal, cause, handler, None)
    selected.sort(key=lambda letter: -letter.died_at)
    shown = [_letter_fields(letter) for letter in selected[:limit]]
    if as_json:
        print_json(*shown)
    elif not shown:
        print_message("There are no dead letters.")
    else:
        columns = ("Died (UTC)", "Reason", "Attempts", "Handler", "Type", "Object", "Portal", "Event key")
        names = ("reason", "attempt", "handler", "subscription_type", "object_id", "portal_id", "event_key")
        rows = zip(selected, shown, strict=False)
        print_table(columns, ((format_utc(letter.died_at), *map(fields.get, names)) for letter, fields in rows))
    if len(selected) > limit:
        print_message(f"Only the newest {limit} of {len(selected)} are shown; --limit shows more.")


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="An event key from `dead list`, or a key from `dead list --quarantined`.")],
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter and its history, oldest first: attempts, errors, writes, replays and their reasons.

    The key of a quarantined element or body shows why it is there and the type of each of its fields. Shows names and
    ids, never values. Exit code 1 when there is neither.

    Example: spokes dead show 0f3a...
    """
    letters = _select(None, None, None, [key])
    if len(letters) > 1:
        keys = ", ".join(f"`{letter.entry.key}`" for letter in letters)
        print_message(f"Event {key} has a dead letter for each of {len(letters)} handlers. Show one of them: {keys}.")
        raise typer.Exit(1)
    letter = letters[0] if letters else None
    if letter is None and (content := quarantined_contents.find_fields(key)):
        quarantined_contents.print_fields(content, as_json=as_json)
        return
    if letter is None:
        print_message(f"There is no dead letter {key}. `spokes dead list` shows the event keys.")
        raise typer.Exit(1)
    history = event_history(key)
    if as_json:
        print_json(_letter_fields(letter) | {"history": [describe_as_json(record) for record in history]})
        return
    print_table(("Field", "Value"), _letter_rows(letter))
    print_history(history)


@app.command()
def replay(
    reason: RequiredReasonOption = "",
    keys: KeysArgument = None,
    portal: PortalOption = None,
    cause: CauseOption = None,
    handler: HandlerOption = None,
    is_quarantined: QuarantinedOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Queue dead letters again, each as a new attempt of its event. Fix the cause first; otherwise they fail again.

    Exit code 1 when no dead letter is selected, or when you do not confirm.

    Example: spokes dead replay --cause not_permitted --reason "scope granted"
    """
    if is_quarantined:
        quarantined_contents.replay(portal, cause, keys, reason, yes=yes, as_json=as_json)
        return
    _apply("replay", DeadLetters.replay, _select(portal, cause, handler, keys), reason, yes=yes, as_json=as_json)


@app.command()
def discard(
    reason: RequiredReasonOption = "",
    keys: KeysArgument = None,
    portal: PortalOption = None,
    cause: CauseOption = None,
    handler: HandlerOption = None,
    is_quarantined: QuarantinedOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Close dead letters for good, without another attempt; the audit keeps their history.

    Exit code 1 when no dead letter is selected, or when you do not confirm.

    Example: spokes dead discard --cause object_not_found --reason "deleted in HubSpot"
    """
    if is_quarantined:
        quarantined_contents.discard(portal, cause, keys, reason, yes=yes, as_json=as_json)
        return
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
        print_message("No dead letter matches. `spokes dead list` shows them.")
        raise typer.Exit(1)
    confirm(f"{verb.capitalize()} {len(selected)} dead letters?", yes=yes)
    count = asyncio.run(_apply_in_pages(action, selected, reason, verb))
    if as_json:
        print_json({"done": verb, "count": count})
    else:
        print(f"{count} dead letters were {verb}ed.")
    if count < len(selected):
        print_message(f"{len(selected) - count} were already gone: another operator has replayed or discarded them.")


async def _apply_in_pages(
    action: Callable[..., Coroutine[None, None, int]], selected: list[DeadLetter], reason: str, verb: str
) -> int:
    count = 0
    async with operator_redis(Settings.from_env()) as redis:
        with progress(verb.capitalize(), len(selected)) as bar:
            for first in range(0, len(selected), _PAGE_SIZE):
                page = selected[first : first + _PAGE_SIZE]
                count += await action(DeadLetters(redis), page, actor=getpass.getuser(), reason=reason)
                bar.update(first + len(page))
    return count


def _select(portal: int | None, cause: str | None, handler: str | None, keys: Sequence[str] | None) -> list[DeadLetter]:
    """Return the dead letters that the options select."""
    portals = None if portal is None else frozenset({portal})

    async def find() -> list[DeadLetter]:
        async with operator_redis(Settings.from_env()) as redis:
            matches = find_dead_letters(redis, portals, reason=cause, handler=handler, keys=keys or ())
            return [letter async for letter in matches]

    return asyncio.run(find())


def _letter_fields(letter: DeadLetter) -> dict[str, object]:
    """Return what may be shown of a dead letter: names and ids, never values."""
    event = letter.entry.event
    return {
        "event_key": letter.entry.key,
        "died_at": letter.died_at,
        "reason": letter.reason,
        "failure": dict(letter.failure),
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


def _letter_rows(letter: DeadLetter) -> list[tuple[str, object]]:
    fields = _letter_fields(letter) | {"reason": explain_failure(letter.reason, letter.failure)}
    return [*((name, value) for name, value in fields.items() if name != "failure"), *letter.failure.items()]


def event_history(key: str) -> list[RecordView]:
    """Return every record of an event, oldest first; without the audit store, print why and return none."""
    settings = Settings.from_env()

    async def load() -> list[RecordView]:
        async with open_audit_store(settings) as engine, operator_redis(settings) as redis:
            event = await find_event(redis, engine, None, key)
        return list(reversed(event.records)) if event else []

    try:
        return asyncio.run(load())
    except AuditUnavailable as error:
        print_message(f"The dead letter's history is not shown. {error}")
        return []


def print_history(records: Iterable[RecordView]) -> None:
    """Print the records as a table."""
    print_table(("Time (UTC)", "What happened", "Attempt", "Handler", "HubSpot's id"), map(_history_row, records))


def _history_row(record: RecordView) -> tuple[object, ...]:
    return format_utc(record.at), describe(record), record.attempt or "", record.handler, record.correlation_id
