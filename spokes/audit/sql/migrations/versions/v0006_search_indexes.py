"""Indexes for searches by HubSpot's eventId, for dead letters by their cause, and for redeliveries.

`spokes.audit.sql.indexes` builds them after the migration, because building them in it would block the archiver.
"""

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Change no table."""


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
