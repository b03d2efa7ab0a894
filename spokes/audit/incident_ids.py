"""Ids of erased persons in the titles and notes of incidents."""

import re
from collections.abc import Collection

from sqlalchemy import Connection, select, update

from spokes.audit.sql.tables import INCIDENT_NOTES, INCIDENTS
from spokes.core.masking import MASK


def mask_ids(connection: Connection, object_ids: Collection[str]) -> int:
    """Replace ids in titles and notes, in the caller's transaction; return how many texts changed."""
    pattern = re.compile(rf"(?<![0-9])(?:{'|'.join(map(re.escape, object_ids))})(?![0-9])")
    changed = 0
    for table, name in ((INCIDENTS, "title"), (INCIDENT_NOTES, "text")):
        column = table.c[name]
        for row_id, text in connection.execute(select(table.c.id, column)).all():
            if (cleaned := pattern.sub(MASK, text)) != text:
                connection.execute(update(table).where(table.c.id == row_id).values({name: cleaned}))
                changed += 1
    return changed
