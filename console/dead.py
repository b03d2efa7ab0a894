"""`dead list|show|replay|discard`: events that could not be processed. Rule: every act has an actor and a reason."""

import asyncio
import getpass
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Final, TypeVar

import typer

from console.output import AsJson, Yes, confirm, progress, say, show_json, show_table, utc
from core.connections import redis_client
from core.settings import Settings
from workers.dead_letters import DeadLetter, DeadLetters

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at dead letters, and end them.")

_PAGE: Final = 100  # letters between two steps of the bar
T = TypeVar("T")

Portal = Annotated[int | None, typer.Option(help="Only of this portal.")]
Cause = Annotated[str | None, typer.Option(help="Only those that died of this, such as object_not_found.")]
Handler = Annotated[str | None, typer.Option(help="Only of this handler, such as contacts.keep_reachable.")]
Keys = Annotated[list[str] | None, typer.Argument(help="Event keys; all that the options choose when none is given.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the audit.", prompt=True)]


@app.command(name="list")
def list_letters(portal: Portal = None, cause: Cause = None, handler: Handler = None, as_json: AsJson = False) -> None:
    """Show what died, the newest first.

    Example: spokes dead list --cause object_not_found
    """
    letters = _chosen(portal, cause, handler, None)
    shown = [_fields(letter) for letter in letters]
    if as_json:
        show_json(*shown)
    elif not shown:
        say("There are no dead letters.")
    else:
        columns = ("Died (UTC)", "Cause", "Tries", "Handler", "Type", "Object", "Portal", "Event key")
        names = ("reason", "attempt", "handler", "subscription_type", "object_id", "portal_id", "event_key")
        died = [utc(letter.died_at) for letter in letters]
        show_table(columns, ((at, *(one[name] for name in names)) for at, one in zip(died, shown, strict=True)))


@app.command()
def show(key: Annotated[str, typer.Argument(help="An event key, from `dead list`.")], as_json: AsJson = False) -> None:
    """Show one dead letter without its values; `audit query --event-key KEY` shows its history.

    Exit code 1 when there is no such dead letter.

    Example: spokes dead show 0f3a...
    """
    (letter,) = _chosen(None, None, None, [key]) or (None,)
    if letter is None:
        say(f"There is no dead letter {key}.")
        raise typer.Exit(1)
    if as_json:
        show_json(_fields(letter))
    else:
        show_table(("Field", "Value"), _fields(letter).items())


@app.command()
def replay(
    reason: Reason,
    keys: Keys = None,
    portal: Portal = None,
    cause: Cause = None,
    handler: Handler = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Queue dead letters again, each as a new attempt of the same event.

    Exit code 1 when there is none, or when you do not confirm.

    Example: spokes dead replay --cause not_permitted --reason "scope granted"
    """
    _act("replay", DeadLetters.replay, _chosen(portal, cause, handler, keys), reason, yes=yes, as_json=as_json)


@app.command()
def discard(
    reason: Reason,
    keys: Keys = None,
    portal: Portal = None,
    cause: Cause = None,
    handler: Handler = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End dead letters for good; the audit keeps that they were.

    Exit code 1 when there is none, or when you do not confirm.

    Example: spokes dead discard --cause object_not_found --reason "deleted in HubSpot"
    """
    _act("discard", DeadLetters.discard, _chosen(portal, cause, handler, keys), reason, yes=yes, as_json=as_json)


def _act(
    verb: str,
    act: Callable[..., Coroutine[None, None, int]],
    letters: list[DeadLetter],
    reason: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    if not letters:
        say("There is no such dead letter.")
        raise typer.Exit(1)
    confirm(f"{verb.capitalize()} {len(letters)} dead letters?", yes=yes)
    count = asyncio.run(_with_letters(lambda dead: _in_pages(dead, act, letters, reason, verb)))
    if as_json:
        show_json({"done": verb, "count": count})
    else:
        print(f"{count} dead letters: {verb} done.")


async def _in_pages(
    dead: DeadLetters, act: Callable[..., Coroutine[None, None, int]], letters: list[DeadLetter], reason: str, verb: str
) -> int:
    count = 0
    with progress(verb.capitalize(), len(letters)) as bar:
        for first in range(0, len(letters), _PAGE):
            count += await act(dead, letters[first : first + _PAGE], actor=getpass.getuser(), reason=reason)
            bar.at(count)
    return count


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
