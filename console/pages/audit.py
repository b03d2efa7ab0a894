"""*Audit*: search, export, and whether the chain holds. Rule: the chain is of all portals, and for who sees all."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from audit.checkpoints import Kind, stored
from audit.queries import find
from audit.records import Action, Outcome
from audit.rows import Row
from audit.verify import Verdict
from console.answers.chain import recomputed
from console.answers.records import search
from console.answers.scope import within
from console.answers.sentences import sentence
from console.lines import LINE, Format, head
from console.pages.audit_filters import NAMES, read
from console.pages.objects import kind
from console.web.actors import ACTOR
from console.web.middlewares import dress
from console.web.policy import Permission, allow
from console.web.render import render
from console.web.state import ENGINE, SETTINGS
from core.errors import AuditUnavailable, Problem
from core.telemetry import report

_CHUNK: Final = 500  # lines
_TYPES: Final = {Format.JSONL: "application/x-ndjson", Format.CSV: "text/csv"}


@dataclass(frozen=True, slots=True)
class Chain:
    """How the chain stands: the newest signed place as a line to keep elsewhere, and what verifying found just now."""

    checkpoint: str
    at: int | None
    verdict: Verdict | None


@allow(Permission.AUDIT)
async def page(request: web.Request) -> web.Response:
    """Show the records that match."""
    return await _page(request, None)


@allow(Permission.AUDIT)
async def check(request: web.Request) -> web.Response:
    """Recompute the chain, and show what was found. It changes nothing; it is a POST because it is much work."""
    app, portals = request.app, request[ACTOR].portals
    verdict = await recomputed(app[ENGINE], portals, master=app[SETTINGS].master_key())
    return await _page(request, verdict)


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


async def _page(request: web.Request, verdict: Verdict | None) -> web.Response:
    filters, faults = read(request.query)
    engine, actor = request.app[ENGINE], request[ACTOR]
    try:
        found = await search(engine, actor.portals, filters, after=request.query.get("after"))
    except ValueError:
        raise Problem(422, "no_such_page", "There is no such page of the audit; search again.") from None
    asked = {name: request.query[name] for name in NAMES if request.query.get(name, "").strip()}
    return render(
        request, "audit.html", status=422 if faults else 200, found=found, asked=asked, faults=faults,
        address=urlencode(asked), actions=list(Action), outcomes=list(Outcome), sentence=sentence, kind=kind,
        chain=await _chain(request, verdict) if actor.portals is None else None,
    )  # fmt: skip


async def _chain(request: web.Request, verdict: Verdict | None) -> Chain:
    places = [place for place in await stored(request.app[ENGINE]) if place.kind is Kind.CHECKPOINT]
    newest = places[-1] if places else None
    return Chain(newest.to_text() if newest else "", newest.at if newest else None, verdict)
