"""What somebody asks of the audit, read from an address. Rule: pure; a fault is a sentence, and asks nothing.

Stream audit records as a file, for the page and the API.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from typing import Final

import typer
from aiohttp import web

from spokes.audit.records import Action, Outcome
from spokes.audit.rows import Row
from spokes.audit.sql.queries import Filters, find
from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, allow
from spokes.console.export import LINE, Format, head
from spokes.console.queries.portal_scope import within
from spokes.console.record_filters import moment
from spokes.console.web.app_keys import ENGINE
from spokes.console.web.middlewares import dress
from spokes.core.errors import AuditUnavailable, Problem
from spokes.core.telemetry.setup import report

NAMES: Final = tuple(field.name for field in fields(Filters))
_NUMBERS: Final = frozenset({"portal_id", "event_id"})
_TIMES: Final = frozenset({"since", "until"})
_DIGITS: Final = 18  # what both kinds of store hold in a number


def read(query: Mapping[str, str]) -> tuple[Filters, list[str]]:
    """Return the filters and what is wrong with those that were left out."""
    given: dict[str, object] = {}
    faults = []
    for name in NAMES:
        text = query.get(name, "").strip()
        if not text:
            continue
        try:
            given[name] = _value(name, text)
        except (ValueError, typer.BadParameter):
            faults.append(_fault(name))
    return Filters(**given), faults  # type: ignore[arg-type]  # _value has made them of the fields' types


def _value(name: str, text: str) -> object:
    if name in _TIMES:
        return moment(text)
    if name in _NUMBERS:
        if not text.isdecimal() or len(text) > _DIGITS:
            raise ValueError
        return int(text)
    if name == "action":
        return Action(text)
    return Outcome(text) if name == "outcome" else text


def _fault(name: str) -> str:
    told = name.replace("_", " ").capitalize()
    if name in _TIMES:
        return f"{told} is no time; try 2026-11-23, 2026-11-23T14:00, 2h or 7d."
    return f"{told} is no number." if name in _NUMBERS else f"{told} is none there is."


_CHUNK: Final = 500  # lines
_TYPES: Final = {Format.JSONL: "application/x-ndjson", Format.CSV: "text/csv"}


@allow(Permission.EXPORT)
async def export(request: web.Request) -> web.StreamResponse:
    """Stream the records that match, the oldest first."""
    filters, faults = read(request.query)
    form = request.query.get("format", Format.JSONL)
    if faults or form not in set(Format):
        raise Problem(422, "wrong_filter", " ".join(faults) or "The format is jsonl or csv.")
    rows = find(request.app[ENGINE], filters, within=within(request[ACTOR].portals))
    first = await anext(rows, None)  # a store that is away is still an answer
    disposition = f'attachment; filename="audit.{Format(form)}"'
    response = web.StreamResponse(headers={"Content-Type": _TYPES[Format(form)], "Content-Disposition": disposition})
    dress(request, response)
    await response.prepare(request)
    try:
        await _write(response, Format(form), first, rows)
    except AuditUnavailable as error:
        report(error)
        if request.transport is not None:
            request.transport.abort()  # a file that was cut short must not look whole
    return response


async def _write(response: web.StreamResponse, form: Format, first: Row | None, rows: AsyncIterator[Row]) -> None:
    line = LINE[form]
    chunk = [head(form), *([line(first)] if first else [])]
    async for row in rows:
        chunk.append(line(row))
        if len(chunk) >= _CHUNK:
            await response.write(b"".join(chunk))
            chunk.clear()
    await response.write(b"".join(chunk))
