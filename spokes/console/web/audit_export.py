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
from spokes.audit.sql.queries import Filters, find_records
from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.export import LINE_ENCODERS, ExportFormat, header_line
from spokes.console.queries.portal_scope import portal_filter
from spokes.console.record_filters import parse_time
from spokes.console.web.app_keys import ENGINE
from spokes.console.web.middlewares import add_standard_headers
from spokes.core.errors import AuditUnavailable, HttpProblem
from spokes.core.telemetry.setup import report_error

FILTER_NAMES: Final = tuple(field.name for field in fields(Filters))
_NUMBERS: Final = frozenset({"portal_id", "event_id"})
_TIMES: Final = frozenset({"since", "until"})
_MAX_DIGITS: Final = 18  # what both kinds of store hold in a number


def parse_filters(query: Mapping[str, str]) -> tuple[Filters, list[str]]:
    """Return the filters and what is wrong with those that were left out."""
    given: dict[str, object] = {}
    faults = []
    for name in FILTER_NAMES:
        text = query.get(name, "").strip()
        if not text:
            continue
        try:
            given[name] = _parse_value(name, text)
        except (ValueError, typer.BadParameter):
            faults.append(_fault_sentence(name))
    return Filters(**given), faults  # type: ignore[arg-type]  # _value has made them of the fields' types


def _parse_value(name: str, text: str) -> object:
    if name in _TIMES:
        return parse_time(text)
    if name in _NUMBERS:
        if not text.isdecimal() or len(text) > _MAX_DIGITS:
            raise ValueError
        return int(text)
    if name == "action":
        return Action(text)
    return Outcome(text) if name == "outcome" else text


def _fault_sentence(name: str) -> str:
    told = name.replace("_", " ").capitalize()
    if name in _TIMES:
        return f"{told} is no time; try 2026-11-23, 2026-11-23T14:00, 2h or 7d."
    return f"{told} is no number." if name in _NUMBERS else f"{told} is none there is."


_CHUNK_LINES: Final = 500  # lines
_CONTENT_TYPES: Final = {ExportFormat.JSONL: "application/x-ndjson", ExportFormat.CSV: "text/csv"}


@requires(Permission.EXPORT)
async def export_records(request: web.Request) -> web.StreamResponse:
    """Stream the records that match, the oldest first."""
    filters, faults = parse_filters(request.query)
    form = request.query.get("format", ExportFormat.JSONL)
    if faults or form not in set(ExportFormat):
        raise HttpProblem(422, "wrong_filter", " ".join(faults) or "The format is jsonl or csv.")
    rows = find_records(request.app[ENGINE], filters, extra_conditions=portal_filter(request[ACTOR].portals))
    first = await anext(rows, None)  # a store that is away is still an answer
    disposition = f'attachment; filename="audit.{ExportFormat(form)}"'
    response = web.StreamResponse(
        headers={"Content-Type": _CONTENT_TYPES[ExportFormat(form)], "Content-Disposition": disposition}
    )
    add_standard_headers(request, response)
    await response.prepare(request)
    try:
        await _write_rows(response, ExportFormat(form), first, rows)
    except AuditUnavailable as error:
        report_error(error)
        if request.transport is not None:
            request.transport.abort()  # a file that was cut short must not look whole
    return response


async def _write_rows(
    response: web.StreamResponse, file_format: ExportFormat, first: Row | None, rows: AsyncIterator[Row]
) -> None:
    line = LINE_ENCODERS[file_format]
    chunk = [header_line(file_format), *([line(first)] if first else [])]
    async for row in rows:
        chunk.append(line(row))
        if len(chunk) >= _CHUNK_LINES:
            await response.write(b"".join(chunk))
            chunk.clear()
    await response.write(b"".join(chunk))
