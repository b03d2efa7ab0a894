"""`dead ... --quarantined`: elements and bodies that were unreadable when they arrived. No value is printed."""

import asyncio
import getpass
from collections.abc import Sequence

import typer

from spokes.console.operator_redis import operator_redis
from spokes.console.output import confirm, format_utc, print_json, print_message, print_table
from spokes.console.quarantine.actions import discard_contents, replay_contents
from spokes.console.quarantine.contents import find_contents
from spokes.core.settings import Settings
from spokes.intake.quarantine_replay import ReplayCounts
from spokes.queue.quarantine import Quarantine, QuarantinedContent


def print_list(portal: int | None, cause: str | None, *, limit: int, as_json: bool) -> None:
    """Print the quarantined contents, newest first: why, when and how large, and the type of each field."""

    async def load() -> list[dict[str, object]]:
        settings = Settings.from_env()
        async with operator_redis(settings) as redis:
            quarantine = Quarantine.from_settings(redis, settings)
            contents = await _select(quarantine, portal, cause, None)
            return [_content_fields(quarantine, content) for content in contents[:limit]]

    shown = asyncio.run(load())
    if as_json:
        print_json(*shown)
    elif not shown:
        print_message("Nothing is quarantined.")
    else:
        columns = ("Kept (UTC)", "Reason", "Portal", "Bytes", "Fields", "Key")
        print_table(columns, (_row(fields) for fields in shown))


def find_fields(key: str) -> dict[str, object] | None:
    """Return what may be shown of the content with that key; None if nothing with it is quarantined."""

    async def load() -> dict[str, object] | None:
        settings = Settings.from_env()
        async with operator_redis(settings) as redis:
            quarantine = Quarantine.from_settings(redis, settings)
            contents = await _select(quarantine, None, None, [key])
            return _content_fields(quarantine, contents[0]) if contents else None

    return asyncio.run(load())


def print_fields(fields: dict[str, object], *, as_json: bool) -> None:
    """Print one content: why and when it was quarantined, and the type of each of its fields, never a value."""
    if as_json:
        print_json(fields)
        return
    at, types = fields["at"], fields["fields"]
    shown = {**fields, "at": format_utc(at) if isinstance(at, int) else "", "fields": ""}
    print_table(("Field", "Value"), [(name, value) for name, value in shown.items() if value != ""])
    if isinstance(types, dict) and types:
        print_table(("Field of the element", "Type"), types.items())
    print_message(
        "After a fix, `spokes dead replay --quarantined` runs it; `spokes dead discard --quarantined` deletes it."
    )


def replay(
    portal: int | None, cause: str | None, keys: Sequence[str] | None, reason: str, *, yes: bool, as_json: bool
) -> None:
    """Admit the selected contents again; what is still unreadable stays in quarantine."""
    contents = _confirmed("Replay", portal, cause, keys, yes=yes)

    async def run() -> ReplayCounts:
        settings = Settings.from_env()
        async with operator_redis(settings) as redis:
            return await replay_contents(settings, redis, contents, actor=getpass.getuser(), reason=reason)

    counts = asyncio.run(run())
    if as_json:
        print_json({"done": "replay", "count": counts.admitted, "unreadable": counts.unreadable})
    else:
        print(f"{counts.admitted} quarantined contents were replayed.")
    if counts.unreadable:
        print_message(f"{counts.unreadable} are still unreadable and stay in quarantine.")


def discard(
    portal: int | None, cause: str | None, keys: Sequence[str] | None, reason: str, *, yes: bool, as_json: bool
) -> None:
    """Delete the selected contents for good."""
    contents = _confirmed("Discard", portal, cause, keys, yes=yes)

    async def run() -> int:
        settings = Settings.from_env()
        async with operator_redis(settings) as redis:
            quarantine = Quarantine.from_settings(redis, settings)
            return await discard_contents(quarantine, contents, actor=getpass.getuser(), reason=reason)

    count = asyncio.run(run())
    if as_json:
        print_json({"done": "discard", "count": count})
    else:
        print(f"{count} quarantined contents were discarded.")


def _confirmed(
    verb: str, portal: int | None, cause: str | None, keys: Sequence[str] | None, *, yes: bool
) -> list[QuarantinedContent]:
    """Return the selected contents once the operator has confirmed; exit with code 1 if there are none."""

    async def load() -> list[QuarantinedContent]:
        settings = Settings.from_env()
        async with operator_redis(settings) as redis:
            return await _select(Quarantine.from_settings(redis, settings), portal, cause, keys)

    contents = asyncio.run(load())
    if not contents:
        print_message("Nothing quarantined matches. `spokes dead list --quarantined` shows the keys.")
        raise typer.Exit(1)
    confirm(f"{verb} {len(contents)} quarantined contents?", yes=yes)
    return contents


async def _select(
    quarantine: Quarantine, portal: int | None, cause: str | None, keys: Sequence[str] | None
) -> list[QuarantinedContent]:
    portals = None if portal is None else frozenset({portal})
    selected = [content async for content in find_contents(quarantine, portals, cause=cause, keys=keys or ())]
    return sorted(selected, key=lambda content: -content.at)


def _content_fields(quarantine: Quarantine, content: QuarantinedContent) -> dict[str, object]:
    """Return what may be shown of a content: names, types and sizes, never values."""
    return {
        "key": content.key, "at": content.at, "reason": content.reason, "portal_id": content.portal_id,
        "delivery_id": content.delivery_id, "bytes": content.size, "fields": quarantine.field_types(content),
    }  # fmt: skip


def _row(fields: dict[str, object]) -> tuple[object, ...]:
    types, at = fields["fields"], fields["at"]
    names = ", ".join(f"{name}: {type_}" for name, type_ in types.items()) if isinstance(types, dict) else ""
    kept = format_utc(at) if isinstance(at, int) else ""
    return kept, fields["reason"], fields["portal_id"] or "none", fields["bytes"], names, fields["key"]
