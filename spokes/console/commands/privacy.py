"""`privacy export|erase|list`: what a person may ask of us. Rule: it asks before it erases, and says what it did."""

import asyncio
import getpass
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, TypeVar

import orjson
import typer

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.console.output import (
    JsonOption,
    ReasonOption,
    YesOption,
    confirm,
    format_utc,
    print_json,
    print_message,
    print_table,
    progress,
)
from spokes.core.errors import ConfigurationError
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.privacy.erasure import Erasures
from spokes.privacy.persons import Person
from spokes.privacy.requests import ErasureRequest, Law, RequestState, load_requests

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Show and erase what is held on a person.")

T = TypeVar("T")
ContactArgument = Annotated[str, typer.Argument(help="The contact: its id, or its e-mail address.")]
PortalOption = Annotated[int | None, typer.Option(help="The HubSpot account; needed when there are several.")]


@app.command()
def export(
    person: ContactArgument,
    portal: PortalOption = None,
    reason: ReasonOption = "",
    output: Annotated[Path | None, typer.Option(help="File to write; standard output when not given.")] = None,
) -> None:
    """Write everything that HubSpot and we hold on a contact as one JSON document.

    Example: spokes privacy export ada@example.com --output ada.json
    """

    async def collect(erasures: Erasures, portal_id: int) -> dict[str, object]:
        return await erasures.export(await erasures.resolve(portal_id, person))

    with progress("Asking HubSpot, Redis and the store"):
        found = _run(collect, portal, reason)
    document = orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        sys.stdout.buffer.write(document)
        return
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(document)


@app.command()
def erase(
    person: Annotated[str, typer.Argument(help="The contact: its id, or its e-mail address.")] = "",
    law: Annotated[Law, typer.Option(help="Under which law it is asked for; it sets the due date.")] = Law.GDPR,
    portal: PortalOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the requests that are not done.")] = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Erase a contact for good: in HubSpot, in queue, dead letters and ledgers; the audit keeps a hash of its id.

    Exit code 1 when requests are left that are not done, or when you do not confirm.

    Example: spokes privacy erase 318845120771 --law ccpa
    """
    if resume:
        done, failed = _run(lambda erasures, _: erasures.resume(print_message), portal)
        if as_json:
            print_json({"done": done, "failed": failed})
        else:
            print(f"{done} requests are done, {failed} are not.")
        raise typer.Exit(1 if failed else 0)
    if not person:
        raise typer.BadParameter("name a contact, or --resume")
    found = _run(lambda erasures, portal_id: erasures.resolve(portal_id, person), portal)
    ids = ", ".join(sorted(found.subject.ids))
    confirm(f"Erase contact {ids} of portal {found.portal_id} for good?", yes=yes)
    ended = _run(lambda erasures, _: _erase(erasures, found, law), portal, reason)
    if as_json:
        print_json(ended.to_row())
    else:
        print(f"The contact is erased; request {ended.id} is done.")


@app.command(name="list")
def list_requests(
    include_done: Annotated[bool, typer.Option("--all", help="Those that are done, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the requests that are not done yet, the most urgent first.

    Example: spokes privacy list
    """
    found = asyncio.run(_find_requests(None if include_done else RequestState.OPEN))
    if as_json:
        print_json(*(asked.to_row() for asked in found))
        return
    if not found:
        print_message("There are no open requests.")
        return
    print_table(
        ("Due (UTC)", "Request", "Portal", "Contact", "Law", "By", "State", "Steps done"), map(_request_row, found)
    )


async def _erase(erasures: Erasures, person: Person, law: Law) -> ErasureRequest:
    return await erasures.erase(await erasures.create_request(person, law), print_message)


async def _find_requests(state: RequestState | None) -> list[ErasureRequest]:
    engine = open_engine(Settings.from_env().database_address)
    try:
        await schema.require_current(engine)
        return await load_requests(engine, state=state)
    finally:
        await engine.dispose()


def _run(work: Callable[[Erasures, int], Coroutine[None, None, T]], portal: int | None, reason: str = "") -> T:
    return asyncio.run(_with_erasures(work, portal, reason))


async def _with_erasures(
    work: Callable[[Erasures, int], Coroutine[None, None, T]], portal: int | None, reason: str
) -> T:
    settings = Settings.from_env(required=("HUBSPOT_ACCESS_TOKEN",))
    async with AsyncExitStack() as opened:
        redis = redis_client(settings)
        opened.push_async_callback(redis.aclose)
        engine = open_engine(settings.database_address)
        opened.push_async_callback(engine.dispose)
        await schema.require_current(engine)
        crm = await CRM.open(settings, redis)
        opened.push_async_callback(crm.close)
        portal_id = portal or await _default_portal(settings, crm)
        acting = Erasures(settings, redis, engine, crm, actor=getpass.getuser(), reason=reason)
        return await work(acting, portal_id)


async def _default_portal(settings: Settings, crm: CRM) -> int:
    """Return the only portal there is: the one that is served, or the one the token belongs to."""
    if len(settings.portal_ids) == 1:
        return settings.portal_ids[0]
    if (token := await crm.check_token()) is None:
        raise ConfigurationError(["HubSpot cannot be asked which portal the token belongs to; name it with --portal."])
    return token.hub_id


def _request_row(asked: ErasureRequest) -> tuple[object, ...]:
    contact = ", ".join(asked.object_ids) or asked.object_hash
    day = format_utc(asked.due_at).partition(" ")[0]
    return day, asked.id, asked.portal_id, contact, asked.kind, asked.requested_by, asked.state, ", ".join(asked.steps)
