"""`privacy export|erase|list`: what a person may ask of us. Rule: it asks before it erases, and says what it did."""

import asyncio
import getpass
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from audit import schema
from audit.requests import ErasureRequest, Law, State, requests
from audit.store import open_engine
from core.connections import redis_client
from core.errors import ConfigurationError
from core.settings import Settings
from crm.services import CRM
from workers.erasure import Erasures
from workers.persons import Person

app = typer.Typer(no_args_is_help=True, help="Show and erase what is held on a person.")

_WIDTH: Final = 160  # columns, where no terminal says how many there are
T = TypeVar("T")
Who = Annotated[str, typer.Argument(help="The contact: its id, or its e-mail address.")]
Portal = Annotated[int | None, typer.Option(help="The HubSpot account; needed when there are several.")]


@app.command()
def export(
    person: Who,
    portal: Portal = None,
    output: Annotated[Path | None, typer.Option(help="File to write; standard output when not given.")] = None,
) -> None:
    """Write everything that HubSpot and we hold on a contact as one JSON document.

    Example: spokes privacy export ada@example.com --output ada.json
    """

    async def collect(erasures: Erasures, portal_id: int) -> dict[str, object]:
        return await erasures.export(await erasures.find(portal_id, person))

    document = orjson.dumps(_run(collect, portal), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        sys.stdout.buffer.write(document)
        return
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(document)


@app.command()
def erase(
    person: Annotated[str, typer.Argument(help="The contact: its id, or its e-mail address.")] = "",
    law: Annotated[Law, typer.Option(help="Under which law it is asked for; it sets the due date.")] = Law.GDPR,
    portal: Portal = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the requests that are not done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a contact for good: in HubSpot, in queue, dead letters and ledgers; the audit keeps a hash of its id.

    Example: spokes privacy erase 318845120771 --law ccpa
    """
    if resume:
        done, failed = _run(lambda erasures, _: erasures.resume(_say), portal)
        print(f"{done} requests are done, {failed} are not.")
        raise typer.Exit(1 if failed else 0)
    if not person:
        raise typer.BadParameter("name a contact, or --resume")
    found = _run(lambda erasures, portal_id: erasures.find(portal_id, person), portal)
    if not yes:
        ids = ", ".join(sorted(found.subject.ids))
        typer.confirm(f"Erase contact {ids} of portal {found.portal_id} for good?", abort=True)
    ended = _run(lambda erasures, _: _erase(erasures, found, law), portal)
    print(f"The contact is erased; request {ended.id} is done.")


@app.command(name="list")
def list_requests(
    everything: Annotated[bool, typer.Option("--all", help="Those that are done, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the requests that are not done yet, the most urgent first.

    Example: spokes privacy list
    """
    found = asyncio.run(_requests(None if everything else State.OPEN))
    if as_json:
        for asked in found:
            print(orjson.dumps(asked.to_row()).decode())
        return
    if not found:
        print("There are no open requests.", file=sys.stderr)
        return
    table = Table("Due (UTC)", "Request", "Portal", "Contact", "Law", "By", "State", "Steps done")
    for asked in found:
        contact = ", ".join(asked.object_ids) or asked.object_hash
        words = (asked.id, str(asked.portal_id), contact, asked.kind, asked.requested_by, asked.state)
        table.add_row(_day(asked.due_at), *words, ", ".join(asked.steps))
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


async def _erase(erasures: Erasures, person: Person, law: Law) -> ErasureRequest:
    return await erasures.carry_out(await erasures.request(person, law), _say)


async def _requests(state: State | None) -> list[ErasureRequest]:
    engine = open_engine(Settings.from_env().database_address)
    try:
        await schema.require(engine)
        return await requests(engine, state=state)
    finally:
        await engine.dispose()


def _run(work: Callable[[Erasures, int], Coroutine[None, None, T]], portal: int | None) -> T:
    return asyncio.run(_with_erasures(work, portal))


async def _with_erasures(work: Callable[[Erasures, int], Coroutine[None, None, T]], portal: int | None) -> T:
    settings = Settings.from_env(needs=("HUBSPOT_ACCESS_TOKEN",))
    async with AsyncExitStack() as opened:
        redis = redis_client(settings)
        opened.push_async_callback(redis.aclose)
        engine = open_engine(settings.database_address)
        opened.push_async_callback(engine.dispose)
        await schema.require(engine)
        crm = await CRM.open(settings, redis)
        opened.push_async_callback(crm.close)
        portal_id = portal or await _portal(settings, crm)
        return await work(Erasures(settings, redis, engine, crm, actor=getpass.getuser()), portal_id)


async def _portal(settings: Settings, crm: CRM) -> int:
    """Return the only portal there is: the one that is served, or the one the token belongs to."""
    if len(settings.portal_ids) == 1:
        return settings.portal_ids[0]
    if (token := await crm.check_token()) is None:
        raise ConfigurationError(["HubSpot cannot be asked which portal the token belongs to; name it with --portal."])
    return token.hub_id


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")
