"""Write an incident's bundle: incident, notes, affected objects, audit of the period, settings, versions, alerts."""

import platform
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.checkpoints import Checkpoint, CheckpointKind, load_checkpoints, signing_key
from spokes.audit.incidents.audit_slice import SliceBounds, SliceCheck, find_bounds, slice_rows
from spokes.audit.incidents.bundle_file import (
    AFFECTED,
    AUDIT,
    FORMAT,
    INCIDENT,
    BundleWriter,
    forged_checkpoint,
    new_bundle,
)
from spokes.audit.incidents.incident import Incident, Note
from spokes.audit.incidents.incident_store import IncidentStore, find_notes
from spokes.audit.records import Action
from spokes.audit.rows import Row
from spokes.audit.sql import schema
from spokes.audit.sql.affected import affected_objects
from spokes.console.doctor.report import settings_findings
from spokes.console.queries.alerts import active_alerts
from spokes.console.queries.history.descriptions import describe
from spokes.console.queries.history.records import RecordView
from spokes.core.clock import now_ms
from spokes.core.errors import ConfigurationError
from spokes.core.masking import Mask
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from spokes.core.version import VERSION

_OF_EVENTS: Final = frozenset(
    {
        Action.EVENT, Action.CRM_WRITE, Action.DELIVERY_RECEIVED, Action.REQUESTS_REFUSED, Action.OBJECT_MERGED,
        Action.INCIDENT_OPENED, Action.INCIDENT_NOTED, Action.INCIDENT_CLOSED,
    }
)  # fmt: skip


async def write_bundle(settings: Settings, engine: AsyncEngine, store: IncidentStore, id_: str, path: Path) -> str:
    """Write the bundle of an incident; return what is wrong with its part of the audit, empty if it is intact.

    Raises:
        IncidentRejected: there is no such incident, or the file exists.
        AuditUnavailable: the store does not answer; no file remains.
    """
    incident = await store.find(id_)
    with new_bundle(path) as bundle:
        await store.record_export(id_)
        notes = await find_notes(engine, id_)
        bounds = await find_bounds(engine, incident.since, incident.until)
        checkpoints = [
            each for each in await load_checkpoints(engine) if bounds.first_seq <= each.seq <= bounds.last_seq
        ]
        check, actions = await _write_audit(bundle, engine, bounds, checkpoints)
        problem = check.finish() or forged_checkpoint(checkpoints, store.audit.master_key)
        if check.records and not problem:
            end = Checkpoint(CheckpointKind.CHECKPOINT, bounds.last_seq, check.last_hash, now_ms())
            checkpoints.append(end.with_signature(signing_key(store.audit.master_key)))
        with bundle.member(AFFECTED) as member:
            affected = await affected_objects(engine, incident.filters)
            for item in affected:
                member.write_json(asdict(item))
        now = now_ms()
        document = {
            "format": FORMAT,
            "exported_at": now,
            "exported_by": store.actor,
            "incident": incident.as_dict(now),
            "notes": [asdict(note) for note in notes],
            "affected_objects": len(affected),
            "timeline": _timeline(incident, notes, actions),
            "alerts": await _alerts(settings),
            "settings": _settings(settings),
            "versions": await _versions(engine),
            "audit": {
                **asdict(bounds), "records": check.records, "problem": problem,
                "checkpoints": [checkpoint.to_text() for checkpoint in checkpoints],
            },
        }  # fmt: skip
        with bundle.member(INCIDENT) as member:
            member.write_json(document, indented=True)
        bundle.sign(id_, store.audit.master_key)
    return problem


async def _write_audit(
    bundle: BundleWriter, engine: AsyncEngine, bounds: SliceBounds, checkpoints: list[Checkpoint]
) -> tuple[SliceCheck, list[dict[str, object]]]:
    """Write the audit records; return their check, and the entries of the timeline among them."""
    check = SliceCheck(bounds, checkpoints)
    actions: list[dict[str, object]] = []
    with bundle.member(AUDIT) as member:
        if bounds.first_seq:
            async for row in slice_rows(engine, bounds):
                check.add(row)
                member.write_json(row)
                if row["action"] not in _OF_EVENTS:
                    actions.append(_timeline_entry(row))
    return check, actions


def _timeline_entry(row: Row) -> dict[str, object]:
    try:
        sentence = describe(RecordView.from_row(row))
    except (ValueError, TypeError, AttributeError):  # a tampered row: the check reports it
        sentence = "The record is unreadable"
    return {"at": row["at"], "actor": row["actor"], "what": sentence, "record": row["seq"]}


def _timeline(
    incident: Incident, notes: Iterable[Note], actions: Iterable[dict[str, object]]
) -> list[dict[str, object]]:
    """Return what happened to the incident and what operators and alerts did in its period, oldest first."""
    own: list[dict[str, object]] = [
        {"at": incident.aware_at, "actor": incident.opened_by, "what": "Became aware of the incident"},
        {"at": incident.opened_at, "actor": incident.opened_by, "what": "Opened the incident"},
        *({"at": note.at, "actor": note.author, "what": "Added a note", "note": note.id} for note in notes),
    ]
    if incident.notified_at is not None:
        own.append({"at": incident.notified_at, "actor": "", "what": "Notified the authority"})
    if incident.closed_at is not None:
        own.append({"at": incident.closed_at, "actor": incident.closed_by, "what": "Closed the incident"})
    return sorted([*own, *actions], key=lambda entry: int(str(entry["at"] or 0)))


async def _alerts(settings: Settings) -> list[dict[str, object]] | None:
    """Return the active alerts; None if Redis does not answer. The timeline has those of the period."""
    try:
        async with redis_client(settings) as redis:
            return [asdict(alert) for alert in await active_alerts(redis, None)]
    except (RedisError, OSError, ConfigurationError):
        return None


def _settings(settings: Settings) -> dict[str, object]:
    mask = Mask(settings.secret_values)
    return {
        str(finding.figures["name"]): mask.text(str(finding.figures["value"]))
        for finding in settings_findings(settings)
    }


async def _versions(engine: AsyncEngine) -> dict[str, object]:
    packages = {package.metadata["Name"]: package.version for package in distributions()}
    revision = await schema.revision(engine)
    return {"spokes": VERSION, "python": platform.python_version(), "audit_store": revision, "packages": packages}
