"""Incidents and notes in the audit store.

Each change and its audit record are written in one transaction, past the Redis stream: an incident can be kept while
Redis does not answer.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from sqlalchemy import Update, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.direct_records import DirectRecords
from spokes.audit.incident_ids import mask_ids
from spokes.audit.incidents.incident import Incident, Note, is_incident_id
from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import INCIDENT_NOTES, INCIDENTS
from spokes.core.clock import now_ms
from spokes.core.errors import IncidentRejected
from spokes.core.settings import Settings

_NO_PORTAL: Final = 0


@dataclass(slots=True)
class IncidentStore:
    """Incidents of one deployment; `actor` is who changes them, from `address`. The caller closes `engine`.

    Every method raises AuditUnavailable if the store does not answer.
    """

    engine: AsyncEngine
    audit: DirectRecords
    actor: str
    address: str = ""

    @classmethod
    def from_settings(cls, settings: Settings, engine: AsyncEngine, actor: str, address: str = "") -> Self:
        """Return the store of this deployment."""
        return cls(engine, DirectRecords.from_settings(settings), actor, address)

    async def open(self, incident: Incident) -> None:
        """Store a new incident."""
        detail = {"aware_at": incident.aware_at, "due_at": incident.due_at}
        async with write_connection(self.engine) as connection:
            await connection.execute(insert(INCIDENTS).values(**incident.to_row()))
            await self._record(connection, Action.INCIDENT_OPENED, incident.id, detail)

    async def add_note(self, note: Note, *, notified_at: int | None = None) -> Note:
        """Store a note, and when the authority was notified if it is given; return the note with its id.

        Raises:
            IncidentRejected: there is no such incident, or it has a notification already.
        """
        note = note.with_id()
        incident_id = note.incident_id
        if not is_incident_id(incident_id):
            raise unknown_incident(incident_id)
        change = update(INCIDENTS).where(INCIDENTS.c.id == incident_id)
        async with write_connection(self.engine) as connection:
            if notified_at is not None:
                await _change_one(
                    connection, incident_id, change.where(INCIDENTS.c.notified_at.is_(None)), notified_at=notified_at
                )
            elif not await _exists(connection, incident_id):
                raise unknown_incident(incident_id)
            await connection.execute(insert(INCIDENT_NOTES).values(**asdict(note)))
            notified = {} if notified_at is None else {"notified_at": notified_at}
            await self._record(connection, Action.INCIDENT_NOTED, incident_id, {"note": note.id, **notified})
        return note

    async def close(self, incident_id: str, note: Note) -> None:
        """Close an incident with a last note.

        Raises:
            IncidentRejected: there is no such incident, or it is closed already.
        """
        if not is_incident_id(incident_id):
            raise unknown_incident(incident_id)
        change = update(INCIDENTS).where(INCIDENTS.c.id == incident_id, INCIDENTS.c.closed_at.is_(None))
        async with write_connection(self.engine) as connection:
            await _change_one(connection, incident_id, change, closed_at=now_ms(), closed_by=self.actor)
            await connection.execute(insert(INCIDENT_NOTES).values(**asdict(note.with_id())))
            await self._record(connection, Action.INCIDENT_CLOSED, incident_id, {})

    async def record_export(self, incident_id: str) -> None:
        """Record in the audit that a bundle is written; its own copy of the audit contains this record."""
        async with write_connection(self.engine) as connection:
            await self._record(connection, Action.INCIDENT_EXPORTED, incident_id, {})

    async def find(self, incident_id: str) -> Incident:
        """Return an incident.

        Raises:
            IncidentRejected: there is no such incident.
        """
        if (incident := await find_incident(self.engine, incident_id)) is None:
            raise unknown_incident(incident_id)
        return incident

    async def _record(
        self, connection: AsyncConnection, action: Action, incident_id: str, detail: Mapping[str, object]
    ) -> None:
        """Append the record of a change to the chain, in the caller's transaction."""
        address = {"address": self.address} if self.address else {}
        record = AuditRecord(
            action=action, portal_id=_NO_PORTAL, actor=self.actor, detail={"incident": incident_id, **detail, **address}
        )
        await self.audit.append(connection, [record])


async def find_incident(engine: AsyncEngine, incident_id: str) -> Incident | None:
    """Return an incident, None if there is no such incident.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if not is_incident_id(incident_id):
        return None
    rows = await fetch(engine, select(INCIDENTS).where(INCIDENTS.c.id == incident_id))
    return _from_row(rows[0]) if rows else None


async def list_incidents(engine: AsyncEngine, *, include_closed: bool = False) -> list[Incident]:
    """Return the incidents, the earliest deadline first.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    query = select(INCIDENTS).order_by(INCIDENTS.c.aware_at, INCIDENTS.c.id)
    if not include_closed:
        query = query.where(INCIDENTS.c.closed_at.is_(None))
    return [_from_row(row) for row in await fetch(engine, query)]


async def find_notes(engine: AsyncEngine, incident_id: str) -> tuple[Note, ...]:
    """Return the notes of an incident, oldest first.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    of_incident = INCIDENT_NOTES.c.incident_id == incident_id
    rows = await fetch(engine, select(INCIDENT_NOTES).where(of_incident).order_by(INCIDENT_NOTES.c.id))
    return tuple(Note(**row) for row in rows)  # type: ignore[arg-type]  # the columns have the types of the fields


async def remove_ids(engine: AsyncEngine, object_ids: Collection[str]) -> int:
    """Replace the ids of an erased person in titles and notes; return how many texts changed.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if not object_ids:
        return 0
    async with write_connection(engine) as connection:
        return await connection.run_sync(mask_ids, object_ids)


def unknown_incident(incident_id: str) -> IncidentRejected:
    """Return the error for an incident that does not exist."""
    return IncidentRejected(f"There is no incident {incident_id!r}. `spokes incident list --all` shows all incidents.")


async def _change_one(connection: AsyncConnection, incident_id: str, change: Update, **values: Any) -> None:
    if (await connection.execute(change.values(**values))).rowcount:
        return
    if not await _exists(connection, incident_id):
        raise unknown_incident(incident_id)
    done = "is closed" if "closed_at" in values else "has a time of notification"
    raise IncidentRejected(
        f"Incident {incident_id} {done} already, so nothing was changed. `spokes incident show {incident_id}` shows it."
    )


async def _exists(connection: AsyncConnection, incident_id: str) -> bool:
    return await connection.scalar(select(INCIDENTS.c.id).where(INCIDENTS.c.id == incident_id)) is not None


def _from_row(row: dict[str, str | int | None]) -> Incident:
    return Incident(**row)  # type: ignore[arg-type]  # the columns have the types of the fields
