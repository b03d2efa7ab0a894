"""Whose events an asker may see. Rule: None is all portals, and what belongs to none is seen only by who sees all."""

from typing import TypeAlias

from sqlalchemy import ColumnElement

from spokes.audit.sql.tables import RECORDS

Portals: TypeAlias = frozenset[int] | None


def can_see(portals: Portals, portal_id: int) -> bool:
    """Whether an asker who may see `portals` sees this one."""
    return portals is None or portal_id in portals


def portal_filter(portals: Portals) -> list[ColumnElement[bool]]:
    """Return what SQL must ask of a record so that the asker may see it."""
    return [] if portals is None else [RECORDS.c.portal_id.in_(sorted(portals))]
