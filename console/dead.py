"""`dead list|show|replay|discard`: events that could not be processed. Rule: every act has an actor and a reason."""

import asyncio
import getpass
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from core.connections import redis_client
from core.settings import Settings
from workers.dead_letters import DeadLetter, DeadLetters

app = typer.Typer(no_args_is_help=True, help="Look at dead letters, and end them.")

_WIDTH: Final = 160  # columns, where no terminal says how many there are
T = TypeVar("T")

Portal = Annotated[int | None, typer.Option(help="Only of this portal.")]
Cause = Annotated[str | None, typer.Option(help="Only those that died of this, such as object_not_found.")]
Handler = Annotated[str | None, typer.Option(help="Only of this handler, such as contacts.keep_reachable.")]
Keys = Annotated[list[str] | None, typer.Argument(help="Event keys; all that the options choose when none is given.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the audit.", prompt=True)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command(name="list")
def list_letters(portal: Portal = None, cause: Cause = None, handler: Handler = None, as_json: AsJson = False) -> None:
    """Show what died, the newest first.

    Example: spokes dead list --cause object_not_found
    """
    letters = _chosen(portal, cause, handler, None)
    if as_json:
        for letter in letters:
            print(orjson.dumps(_fields(letter)).decode())
        return
    if not letters:
        print("There are no dead letters.", file=sys.stderr)
        return
    table = Table("Died (UTC)", "Cause", "Tries", "Handler", "Type", "Object", "Portal", "Event key")
    for letter in letters:
        fields = _fields(letter)
        died = datetime.fromtimestamp(letter.died_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        names = ("reason", "attempt", "handler", "subscription_type", "object_id", "portal_id", "event_key")
        table.add_row(died, *(str(fields[name]) for name in names))
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


@app.command()
def show(key: Annotated[str, typer.Argument(help="An event key, from `dead list`.")]) -> None:
    """Show one dead letter without its values; `audit query --event-key KEY` shows its history.

    Example: spokes dead show 0f3a...
    """
    (letter,) = _chosen(None, None, None, [key]) or (None,)
    if letter is None:
        print(f"There is no dead letter {key}.", file=sys.stderr)
        raise typer.Exit(1)
    print(orjson.dumps(_fields(letter), option=orjson.OPT_INDENT_2).decode())


@app.command()
def replay(
    reason: Reason,
    keys: Keys = None,
    portal: Portal = None,
    cause: Cause = None,
    handler: Handler = None,
    yes: Yes = False,
) -> None:
    """Queue dead letters again, each as a new attempt of the same event.

    Example: spokes dead replay --cause not_permitted --reason "scope granted"
    """
    _act("replay", DeadLetters.replay, _chosen(portal, cause, handler, keys), reason, yes)


@app.command()
def discard(
    reason: Reason,
    keys: Keys = None,
    portal: Portal = None,
    cause: Cause = None,
    handler: Handler = None,
    yes: Yes = False,
) -> None:
    """End dead letters for good; the audit keeps that they were.

    Example: spokes dead discard --cause object_not_found --reason "deleted in HubSpot"
    """
    _act("discard", DeadLetters.discard, _chosen(portal, cause, handler, keys), reason, yes)


def _act(
    verb: str, act: Callable[..., Coroutine[None, None, int]], letters: list[DeadLetter], reason: str, yes: bool
) -> None:
    if not letters:
        print("There is no such dead letter.", file=sys.stderr)
        raise typer.Exit(1)
    if not yes:
        typer.confirm(f"{verb.capitalize()} {len(letters)} dead letters?", abort=True)
    count = asyncio.run(_with_letters(lambda dead: act(dead, letters, actor=getpass.getuser(), reason=reason)))
    print(f"{count} dead letters: {verb} done.")


def _chosen(portal: int | None, cause: str | None, handler: str | None, keys: list[str] | None) -> list[DeadLetter]:
    """Return the dead letters that the options choose."""

    def fits(letter: DeadLetter) -> bool:
        return (
            (cause is None or letter.reason == cause)
            and (handler is None or letter.handler == handler)
            and (not keys or letter.entry.key in keys)
        )

    async def choose(dead: DeadLetters) -> list[DeadLetter]:
        return [letter async for letter in _all(dead, portal) if fits(letter)]

    return asyncio.run(_with_letters(choose))


async def _all(dead: DeadLetters, portal: int | None) -> AsyncIterator[DeadLetter]:
    for portal_id in [portal] if portal is not None else await dead.portals():
        async for letter in dead.list(portal_id):
            yield letter


async def _with_letters(work: Callable[[DeadLetters], Coroutine[None, None, T]]) -> T:
    redis = redis_client(Settings.from_env())
    try:
        return await work(DeadLetters(redis))
    finally:
        await redis.aclose()


def _fields(letter: DeadLetter) -> dict[str, object]:
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
