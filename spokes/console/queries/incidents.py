"""Incidents with their clocks. They concern the whole deployment: only actors who may see all portals see them."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.incidents.incident import ClockState, Incident, IncidentState, Note
from spokes.audit.incidents.incident_store import find_incident, find_notes, list_incidents
from spokes.audit.sql.affected import AffectedObject, affected_objects
from spokes.console.queries.portal_scope import Portals
from spokes.core.clock import now_ms


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident and its clock; `due_at` is the epoch ms by which the authority must be notified."""

    incident: Incident
    state: IncidentState
    due_at: int
    clock: ClockState
    clock_sentence: str


@dataclass(frozen=True, slots=True)
class IncidentDetails:
    """An incident with its notes and the objects that were used in its period."""

    view: IncidentView
    notes: tuple[Note, ...]
    affected: tuple[AffectedObject, ...]


async def incident_views(engine: AsyncEngine, portals: Portals) -> tuple[IncidentView, ...]:
    """Return all incidents, the earliest deadline first; none for an actor of some portals.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if portals is not None:
        return ()
    return tuple(map(_view, await list_incidents(engine, include_closed=True)))


async def incident_details(engine: AsyncEngine, portals: Portals, incident_id: str) -> IncidentDetails | None:
    """Return an incident; None if there is none of this id, or for an actor of some portals.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if portals is not None or (incident := await find_incident(engine, incident_id)) is None:
        return None
    affected = await affected_objects(engine, incident.filters)
    return IncidentDetails(_view(incident), await find_notes(engine, incident_id), tuple(affected))


def _view(incident: Incident) -> IncidentView:
    now = now_ms()
    return IncidentView(
        incident, incident.state, incident.due_at, incident.clock_state(now), incident.clock_sentence(now)
    )
