"""`backfills list|pause|resume|cancel`: the backfills that were started."""

import asyncio
import getpass
from typing import Annotated

import typer

from spokes.backfill.run import BackfillResult
from spokes.backfill.store import Backfill, BackfillState, BackfillStore
from spokes.console.audit_store import open_audit_store
from spokes.console.commands.recovery.backfill import BackfillSession, finish
from spokes.console.commands.recovery.backfill_tables import COLUMNS, backfill_fields, backfill_row
from spokes.console.output import JsonOption, ReasonOption, print_json, print_message, print_table
from spokes.core.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Show, pause, continue or cancel backfills. See docs/recovery.md.",
)

BackfillArgument = Annotated[str, typer.Argument(help="The backfill's id.", metavar="BACKFILL")]


@app.command(name="list")
def list_backfills(
    include_ended: Annotated[bool, typer.Option("--all", help="Finished and cancelled ones too.")] = False,
    limit: Annotated[int, typer.Option(help="Maximum number of backfills.", min=1)] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the backfills that are not finished, the last started first.

    Example: spokes backfills list --all
    """
    backfills = asyncio.run(_list(Settings.from_env(), limit, include_ended=include_ended))
    if as_json:
        print_json(*map(backfill_fields, backfills))
    elif not backfills:
        print_message("No backfill was started." if include_ended else "No backfill is open.")
    else:
        print_table(COLUMNS, map(backfill_row, backfills))


@app.command()
def pause(backfill_id: BackfillArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Stop a backfill after the page it reads, until it is resumed.

    Example: spokes backfills pause 1f0c7a2b
    """
    _request(backfill_id, BackfillState.PAUSED, reason, as_json=as_json)


@app.command()
def cancel(backfill_id: BackfillArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Stop a backfill for good after the page it reads. Events that were admitted are processed.

    Example: spokes backfills cancel 1f0c7a2b --reason "wrong portal"
    """
    _request(backfill_id, BackfillState.CANCELLED, reason, as_json=as_json)


@app.command()
def resume(backfill_id: BackfillArgument, as_json: JsonOption = False) -> None:
    """Continue a backfill from its checkpoint: one that was paused, that an error stopped, or whose process was killed.

    Example: spokes backfills resume 1f0c7a2b
    """
    finish(asyncio.run(_resume(Settings.from_env(), backfill_id)), as_json=as_json)


def _request(backfill_id: str, state: BackfillState, reason: str, *, as_json: bool) -> None:
    asyncio.run(_set_state(Settings.from_env(), backfill_id, state, reason))
    if as_json:
        print_json({"id": backfill_id, "state": state})
    else:
        print(f"Backfill {backfill_id} is {state}.")


async def _list(settings: Settings, limit: int, *, include_ended: bool) -> list[Backfill]:
    async with open_audit_store(settings) as engine:
        store = BackfillStore.from_settings(settings, engine, getpass.getuser())
        return await store.list(include_ended=include_ended, limit=limit)


async def _set_state(settings: Settings, backfill_id: str, state: BackfillState, reason: str) -> None:
    async with open_audit_store(settings) as engine:
        await BackfillStore.from_settings(settings, engine, getpass.getuser()).request(backfill_id, state, reason)


async def _resume(settings: Settings, backfill_id: str) -> list[BackfillResult]:
    async with BackfillSession(settings) as session:
        return await session.run([await session.store.claim(backfill_id, session.runner)])
