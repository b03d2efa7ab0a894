"""Indexes for searches by HubSpot's eventId and for dead letters by their cause, and for redeliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_INDEXES = (
    ("ix_audit_records_event_id", ["event_id", "at", "seq"], "event_id IS NOT NULL"),
    ("ix_audit_records_dead", ["at", "seq"], "outcome = 'dead'"),
    ("ix_audit_records_duplicate", ["at", "seq"], "outcome = 'duplicate'"),
    ("ix_audit_records_dead_cause", ["reason", "handler", "at", "seq"], "outcome = 'dead'"),
)


def upgrade() -> None:
    """Create the indexes; records cannot be archived meanwhile, and wait in Redis."""
    for name, columns, condition in _INDEXES:
        where = sa.text(condition)
        op.create_index(name, "audit_records", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
