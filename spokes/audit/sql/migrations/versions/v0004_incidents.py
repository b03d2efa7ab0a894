"""Incidents and their notes."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "incidents",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("aware_at", _BIGINT, nullable=False),
        sa.Column("opened_at", _BIGINT, nullable=False),
        sa.Column("opened_by", sa.Text, nullable=False),
        sa.Column("since", _BIGINT, nullable=False),
        sa.Column("until", _BIGINT),
        sa.Column("actor", sa.Text),
        sa.Column("handler", sa.Text),
        sa.Column("notified_at", _BIGINT),
        sa.Column("closed_at", _BIGINT),
        sa.Column("closed_by", sa.Text),
    )
    op.create_table(
        "incident_notes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("incident_id", sa.Text, sa.ForeignKey("incidents.id"), nullable=False, index=True),
        sa.Column("at", _BIGINT, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
