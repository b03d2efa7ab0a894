"""`privacy export|erase|list`: requests of data subjects. Erasure asks for confirmation and reports each step."""

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

from spokes.console.audit_store import open_audit_store
from spokes.console.operator_redis import operator_redis
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
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.privacy.erasure import Erasures
from spokes.privacy.persons import Person
from spokes.privacy.requests import ErasureRequest, Law, RequestState, load_requests

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Export or erase the data stored about a person, in HubSpot and in Spokes.",
)

T = TypeVar("T")
ContactArgument = Annotated[str, typer.Argument(help="The contact: its id, or its e-mail address.")]
PortalOption = Annotated[int | None, typer.Option(help="The HubSpot account; needed when there are several.", min=1)]


@app.command()
def export(
    person: ContactArgument,
    portal: PortalOption = None,
    reason: ReasonOption = "",
    output: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
) -> None:
    """Write everything that HubSpot and Spokes store about a contact as one JSON document.

    A file is readable by its owner only.

    Example: spokes privacy export ada@example.com --output ada.json
    """

    async def collect(erasures: Erasures, portal_id: int) -> dict[str, object]:
        return await erasures.export(await erasures.resolve(portal_id, person))

    with progress("Reading HubSpot, Redis and the audit store"):
        data = _run(collect, portal, reason)
    document = orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        sys.stdout.buffer.write(document)
        return
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(document)


@app.command()
def erase(
    person: Annotated[str, typer.Argument(help="The contact: its id, or its e-mail address.")] = "",
    law: Annotated[Law, typer.Option(help="The law of the request; it sets the due date.")] = Law.GDPR,
    portal: PortalOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the requests that are not done.")] = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Erase a contact for good: in HubSpot, queue, dead letters and ledgers. The audit keeps only a hash of its id.

    An interrupted request stays open; --resume continues it.

    Exit code 1 when a request is not done, or when you do not confirm.

    Example: spokes privacy erase 318845120771 --law ccpa
    """
    if resume:
        done, failed = _run(lambda erasures, _: erasures.resume(print_message), portal)
        if as_json:
            print_json({"done": done, "failed": failed})
        else:
            print(f"Requests done: {done}, not done: {failed}.")
        raise typer.Exit(1 if failed else 0)
    if not person:
        raise typer.BadParameter("name a contact, or use --resume")
    resolved = _run(lambda erasures, portal_id: erasures.resolve(portal_id, person), portal)
    ids = ", ".join(sorted(resolved.subject.ids))
    confirm(f"Erase contact {ids} of portal {resolved.portal_id} for good?", yes=yes)
    request = _run(lambda erasures, _: _erase(erasures, resolved, law), portal, reason)
    if as_json:
        print_json(request.to_row())
    else:
        print(f"The contact is erased; request {request.id} is done.")
        for sentence in request.remains:
            print(f"What remains: {sentence}")


@app.command(name="list")
def list_requests(
    include_done: Annotated[bool, typer.Option("--all", help="Also show the requests that are done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the erasure requests that are not done yet, the earliest due date first.

    Example: spokes privacy list
    """
    requests = asyncio.run(_find_requests(None if include_done else RequestState.OPEN))
    if as_json:
        print_json(*(request.to_row() for request in requests))
        return
    if not requests:
        print_message("There are no requests." if include_done else "There are no open requests.")
        return
    columns = ("Due (UTC)", "Request", "Portal", "Contact", "Law", "By", "State", "Steps done")
    print_table(columns, map(_request_row, requests))


async def _erase(erasures: Erasures, person: Person, law: Law) -> ErasureRequest:
    return await erasures.erase(await erasures.create_request(person, law), print_message)


async def _find_requests(state: RequestState | None) -> list[ErasureRequest]:
    async with open_audit_store(Settings.from_env()) as engine:
        return await load_requests(engine, state=state)


def _run(work: Callable[[Erasures, int], Coroutine[None, None, T]], portal: int | None, reason: str = "") -> T:
    return asyncio.run(_with_erasures(work, portal, reason))


async def _with_erasures(
    work: Callable[[Erasures, int], Coroutine[None, None, T]], portal: int | None, reason: str
) -> T:
    settings = Settings.from_env(required=("HUBSPOT_ACCESS_TOKEN",))
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(operator_redis(settings, is_tolerant=False))
        engine = await stack.enter_async_context(open_audit_store(settings))
        crm = await CRM.open(settings, redis)
        stack.push_async_callback(crm.close)
        portal_id = portal or await _default_portal(settings, crm)
        erasures = Erasures(settings, redis, engine, crm, actor=getpass.getuser(), reason=reason)
        return await work(erasures, portal_id)


async def _default_portal(settings: Settings, crm: CRM) -> int:
    """Return the only portal in PORTAL_IDS, or the portal of the access token."""
    if len(settings.portal_ids) == 1:
        return settings.portal_ids[0]
    if (token := await crm.check_token()) is None:
        raise ConfigurationError(
            ["HubSpot does not answer, so the access token's portal is unknown. Name the portal with --portal."]
        )
    return token.hub_id


def _request_row(request: ErasureRequest) -> tuple[object, ...]:
    contact = ", ".join(request.object_ids) or request.object_hash
    day = format_utc(request.due_at).partition(" ")[0]
    steps = ", ".join(request.steps)
    return day, request.id, request.portal_id, contact, request.kind, request.requested_by, request.state, steps
