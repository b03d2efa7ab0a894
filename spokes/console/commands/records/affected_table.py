"""The table of affected objects, for `audit affected` and `incident show`."""

from typing import Final

from spokes.audit.sql.affected import AffectedObject
from spokes.console.output import format_utc

AFFECTED_COLUMNS: Final = ("Portal", "Object", "Use", "Records", "First (UTC)", "Last (UTC)")


def affected_row(item: AffectedObject) -> tuple[object, ...]:
    """Return the cells of one object."""
    object_id = item.object_id or f"erased, hash {item.object_hash}"
    return (
        item.portal_id, f"{item.object_type} {object_id}", ", ".join(item.access), item.records,
        format_utc(item.first_at), format_utc(item.last_at),
    )  # fmt: skip
