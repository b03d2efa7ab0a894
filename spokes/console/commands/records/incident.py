"""`incident open|note|list|show|close|export|verify`: keep an incident with its 72-hour clock, and hand it over signed.

Incidents are kept in the audit store; Redis is only asked for the active alerts of an export.
"""

import asyncio
import getpass
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from spokes.audit.incidents.bundle_file import verify_bundle
from spokes.audit.incidents.incident import (
    MAX_NOTE,
    Incident,
    Note,
    check_notified_at,
    clean_text,
    new_incident,
)
from spokes.audit.incidents.incident_store import IncidentStore, find_notes
from spokes.audit.incidents.incident_store import list_incidents as stored_incidents
from spokes.audit.sql.affected import AffectedObject, affected_objects
from spokes.console.audit_store import open_audit_store
from spokes.console.commands.records.affected_table import AFFECTED_COLUMNS, affected_row
from spokes.console.incidents.bundle import write_bundle
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table
from spokes.console.record_filters import parse_fingerprint_option, parse_time_option
from spokes.core.clock import now_ms
from spokes.core.masking import Mask
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Keep an incident: its 72-hour clock (GDPR article 33), notes and affected objects. Export it as signed "
    "evidence.",
)

_COLUMNS: Final = ("Incident", "Title", "Aware (UTC)", "Notify by (UTC)", "State", "Clock")
_MAX_SHOWN: Final = 50  # affected objects in a table
T = TypeVar("T")
IncidentArgument = Annotated[str, typer.Argument(help="The incident's id.", metavar="INCIDENT")]


@app.command(name="open")
def open_incident(
    title: Annotated[str, typer.Argument(help="What happened, in a few words, without personal data.")],
    aware: Annotated[
        int | None,
        typer.Option(
            help="When you became aware; the 72 hours start then.",
            parser=parse_time_option,
            metavar="TIME",
            show_default="now",
        ),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(
            help="Start of the period to examine.",
            parser=parse_time_option,
            metavar="TIME",
            show_default="a day before --aware",
        ),
    ] = None,
    until: Annotated[
        int | None,
        typer.Option(help="End of this period.", parser=parse_time_option, metavar="TIME", show_default="open"),
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only objects used by this actor are affected.")] = None,
    handler: Annotated[str | None, typer.Option(help="Only objects used by this handler are affected.")] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Only objects used with the access token of this fingerprint are affected: `spokes secrets "
            "fingerprints`.",
            parser=parse_fingerprint_option,
            metavar="FINGERPRINT",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Open an incident and start its 72-hour clock. Text that looks personal or secret is masked.

    Example: spokes incident open "Access token in a public repository" --aware 2h --since 2026-11-23T14:00
    """
    settings = Settings.from_env()
    incident = new_incident(
        title, Mask(settings.secret_values), opened_by=getpass.getuser(), aware_at=aware, since=since, until=until,
        actor=actor, handler=handler, token=token,
    )  # fmt: skip
    _run(settings, lambda store: store.open(incident))
    if as_json:
        print_json(incident.as_dict(now_ms()))
        return
    print(f"Incident {incident.id} is open. {incident.clock_sentence(now_ms())}")
    print_message(
        f"Add notes: spokes incident note {incident.id} TEXT. See what is affected: spokes incident show {incident.id}"
    )


@app.command()
def note(
    incident_id: IncidentArgument,
    text: Annotated[str, typer.Argument(help="The note, without personal data.")],
    notified: Annotated[
        bool, typer.Option("--notified", help="The supervisory authority was notified; this stops the clock.")
    ] = False,
    at: Annotated[
        int | None,
        typer.Option(
            help="When it was notified, with --notified.", parser=parse_time_option, metavar="TIME", show_default="now"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a note to an incident, also to a closed one. Text that looks personal or secret is masked.

    Example: spokes incident note 5f0c2a91 "Token revoked, new one in place"
    Example: spokes incident note 5f0c2a91 "Reported to the authority, case 2026-118" --notified
    """
    if at is not None and not notified:
        raise typer.BadParameter("only says when the authority was notified. Add --notified.", param_hint="--at")
    settings = Settings.from_env()
    added = _note(settings, incident_id, text)
    notified_at = (now_ms() if at is None else at) if notified else None
    if notified_at is not None:
        check_notified_at(notified_at, now_ms())
    stored = _run(settings, lambda store: store.add_note(added, notified_at=notified_at))
    if as_json:
        print_json({**asdict(stored), "notified_at": notified_at})
    else:
        print(f"The note was added to incident {incident_id}.")


@app.command(name="list")
def list_incidents(
    include_closed: Annotated[bool, typer.Option("--all", help="Also show closed incidents.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the open incidents, the one that is due first at the top.

    Example: spokes incident list
    """
    incidents = _run(Settings.from_env(), lambda store: stored_incidents(store.engine, include_closed=include_closed))
    now = now_ms()
    if as_json:
        print_json(*(incident.as_dict(now) for incident in incidents))
    elif not incidents:
        print_message("There are no incidents." if include_closed else "There are no open incidents.")
    else:
        print_table(_COLUMNS, (_row(incident, now) for incident in incidents))


@app.command()
def show(incident_id: IncidentArgument, as_json: JsonOption = False) -> None:
    """Show an incident: its clock, its notes, and the objects that were used in its period.

    Example: spokes incident show 5f0c2a91
    """

    async def read(store: IncidentStore) -> tuple[Incident, tuple[Note, ...], list[AffectedObject]]:
        incident = await store.find(incident_id)
        notes = await find_notes(store.engine, incident_id)
        return incident, notes, await affected_objects(store.engine, incident.filters)

    incident, notes, affected = _run(Settings.from_env(), read)
    now = now_ms()
    if as_json:
        objects = [asdict(item) for item in affected]
        print_json({**incident.as_dict(now), "notes": [asdict(note) for note in notes], "affected": objects})
        return
    print_table(_COLUMNS, [_row(incident, now)])
    if notes:
        print_table(("Time (UTC)", "By", "Note"), ((format_utc(note.at), note.author, note.text) for note in notes))
    period = f"from {format_utc(incident.since)} to {format_utc(incident.until) or 'now'} UTC"
    if not affected:
        print(f"No object was read, written, exported or revealed {period}.")
        return
    print_table(AFFECTED_COLUMNS, map(affected_row, affected[:_MAX_SHOWN]))
    shown = f"; the first {_MAX_SHOWN} are shown, --json shows all" if len(affected) > _MAX_SHOWN else ""
    print(f"Affected objects {period}: {len(affected):,}{shown}.")


@app.command()
def close(
    incident_id: IncidentArgument,
    text: Annotated[str, typer.Argument(help="The conclusion: cause, measures, and why no notification was needed.")],
    as_json: JsonOption = False,
) -> None:
    """Close an incident with its conclusion. It stays readable, and notes can still be added.

    Example: spokes incident close 5f0c2a91 "Token was never used by others; no risk to people"
    """
    settings = Settings.from_env()
    conclusion = _note(settings, incident_id, text)

    async def change(store: IncidentStore) -> Incident:
        await store.close(incident_id, conclusion)
        return await store.find(incident_id)

    incident = _run(settings, change)
    if as_json:
        print_json(incident.as_dict(now_ms()))
    else:
        print(f"Incident {incident_id} is closed. {incident.clock_sentence(now_ms())}")


@app.command()
def export(
    incident_id: IncidentArgument,
    output: Annotated[
        Path | None, typer.Option(help="File to write; default: a name with the incident and the time.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a signed bundle, the evidence of an incident.

    It contains the incident, its notes and affected objects, the audit of its period with the proof of its chain,
    settings with secrets masked, versions, alerts and a timeline. The file is a zip archive, readable by its owner
    only. It contains ids of objects: keep it safe.

    Exit code 1 when the audit of the period is not intact; the bundle is written and says why.

    Example: spokes incident export 5f0c2a91 --output incident.zip
    """
    settings = Settings.from_env()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = output or Path(f"incident-{''.join(c for c in incident_id if c.isalnum())}-{stamp}.zip")
    problem = _run(settings, lambda store: write_bundle(settings, store.engine, store, incident_id, path))
    if as_json:
        print_json({"file": str(path), "intact": not problem, "problem": problem})
    else:
        print(f"The bundle was written to {path}.")
        if problem:
            print_message(f"The audit in it is not intact: {problem} `spokes audit verify` checks the whole audit.")
    raise typer.Exit(1 if problem else 0)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A bundle that `spokes incident export` wrote.")],
    as_json: JsonOption = False,
) -> None:
    """Check a bundle offline: its signature, its files, and the chain of its audit records. It needs AUDIT_KEY only.

    Exit code 1 when the bundle was changed, was signed with another key, or holds an audit that is not intact.

    Example: spokes incident verify incident.zip
    """
    result = verify_bundle(file, load_master_key(Settings.from_env()))
    if as_json:
        print_json(result.as_dict())
    else:
        print(result.sentence)
    raise typer.Exit(1 if result.problem else 0)


def _note(settings: Settings, incident_id: str, text: str) -> Note:
    cleaned = clean_text(text, Mask(settings.secret_values), what="note", limit=MAX_NOTE)
    return Note(incident_id=incident_id, author=getpass.getuser(), text=cleaned)


def _run(settings: Settings, work: Callable[[IncidentStore], Coroutine[None, None, T]]) -> T:
    async def with_store() -> T:
        async with open_audit_store(settings) as engine:
            return await work(IncidentStore.from_settings(settings, engine, getpass.getuser()))

    return asyncio.run(with_store())


def _row(incident: Incident, now: int) -> tuple[object, ...]:
    return (
        incident.id, incident.title, format_utc(incident.aware_at), format_utc(incident.due_at), incident.state,
        incident.clock_sentence(now),
    )  # fmt: skip
