"""The portals that an actor may see; None means all. Records without a portal are visible only with None."""

from typing import TypeAlias

from sqlalchemy import ColumnElement

from spokes.audit.sql.tables import RECORDS

Portals: TypeAlias = frozenset[int] | None


def can_see(portals: Portals, portal_id: int) -> bool:
    """Return whether `portal_id` is in `portals`."""
    return portals is None or portal_id in portals


def portal_filter(portals: Portals) -> list[ColumnElement[bool]]:
    """Return the SQL conditions for records of these portals."""
    return [] if portals is None else [RECORDS.c.portal_id.in_(sorted(portals))]
