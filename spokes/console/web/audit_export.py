"""Audit filters of a URL, and the streamed export of matching records, for page and API."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from typing import Final

from aiohttp import web

from spokes.audit.records import Action, Outcome
from spokes.audit.rows import Row
from spokes.audit.sql.queries import Filters, find_records
from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.export import LINE_ENCODERS, ExportFormat, header_line
from spokes.console.number_input import parse_number
from spokes.console.queries.portal_scope import portal_filter
from spokes.console.time_input import parse_time
from spokes.console.web.app_keys import ENGINE
from spokes.console.web.middlewares import add_standard_headers
from spokes.console.web.work_limits import WORK_LIMITS
from spokes.core.errors import AuditUnavailable, HttpProblem
from spokes.core.telemetry.secret_ages import is_fingerprint
from spokes.core.telemetry.setup import report_error

FILTER_NAMES: Final = tuple(field.name for field in fields(Filters))
_NUMBERS: Final = frozenset({"portal_id", "event_id"})
_TIMES: Final = frozenset({"since", "until"})
_CHUNK_LINES: Final = 500
_CONTENT_TYPES: Final = {ExportFormat.JSONL: "application/x-ndjson", ExportFormat.CSV: "text/csv"}


def parse_filters(query: Mapping[str, str]) -> tuple[Filters, list[str]]:
    """Return the valid filters, and a sentence for each invalid one."""
    values: dict[str, object] = {}
    faults = []
    for name in FILTER_NAMES:
        text = query.get(name, "").strip()
        if not text:
            continue
        try:
            values[name] = _parse_value(name, text)
        except ValueError:
            faults.append(_fault_sentence(name))
    return Filters(**values), faults  # type: ignore[arg-type]  # _parse_value returns the fields' types


def _parse_value(name: str, text: str) -> object:
    if name in _TIMES:
        return parse_time(text)
    if name in _NUMBERS:
        if (number := parse_number(text)) is None:
            raise ValueError
        return number
    if name == "token" and not is_fingerprint(text):
        raise ValueError
    if name == "action":
        return Action(text)
    return Outcome(text) if name == "outcome" else text


def _fault_sentence(name: str) -> str:
    label = name.replace("_", " ").capitalize()
    if name in _TIMES:
        return f"{label} is not a time; try 2026-11-23, 2026-11-23T14:00, 2h or 7d."
    if name == "token":
        return "Token is not a fingerprint, which has 16 hexadecimal digits; `spokes secrets fingerprints` shows it."
    return f"{label} is not a number." if name in _NUMBERS else f"{label} is not a known value."


@requires(Permission.EXPORT)
async def export_records(request: web.Request) -> web.StreamResponse:
    """Stream the matching records, oldest first."""
    filters, faults = parse_filters(request.query)
    requested_format = request.query.get("format", ExportFormat.JSONL)
    if faults or requested_format not in set(ExportFormat):
        raise HttpProblem(422, "wrong_filter", " ".join(faults) or "The format is jsonl or csv.")
    file_format = ExportFormat(requested_format)
    with request.app[WORK_LIMITS].exports.running(request[ACTOR].name):
        return await _stream_records(request, filters, file_format)


async def _stream_records(request: web.Request, filters: Filters, file_format: ExportFormat) -> web.StreamResponse:
    rows = find_records(request.app[ENGINE], filters, extra_conditions=portal_filter(request[ACTOR].portals))
    first = await anext(rows, None)  # before the headers are sent, so that an unavailable store is still a 503
    disposition = f'attachment; filename="audit.{file_format}"'
    response = web.StreamResponse(
        headers={"Content-Type": _CONTENT_TYPES[file_format], "Content-Disposition": disposition}
    )
    add_standard_headers(request, response)
    await response.prepare(request)
    try:
        await _write_rows(response, file_format, first, rows)
    except AuditUnavailable as error:
        report_error(error)
        if request.transport is not None:
            request.transport.abort()  # a truncated file must not look complete
    return response


async def _write_rows(
    response: web.StreamResponse, file_format: ExportFormat, first: Row | None, rows: AsyncIterator[Row]
) -> None:
    encode = LINE_ENCODERS[file_format]
    chunk = [header_line(file_format), *([encode(first)] if first else [])]
    async for row in rows:
        chunk.append(encode(row))
        if len(chunk) >= _CHUNK_LINES:
            await response.write(b"".join(chunk))
            chunk.clear()
    await response.write(b"".join(chunk))
