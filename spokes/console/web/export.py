"""Stream audit records as a file, for the page and the API."""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from spokes.audit.rows import Row
from spokes.audit.sql.queries import find
from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, allow
from spokes.console.export import LINE, Format, head
from spokes.console.queries.portal_scope import within
from spokes.console.web.app_keys import ENGINE
from spokes.console.web.audit_export import read
from spokes.console.web.middlewares import dress
from spokes.core.errors import AuditUnavailable, Problem
from spokes.core.telemetry.setup import report

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
