"""Backfills, with the checkpoint from which each continues."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "backfills",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("portal_id", _BIGINT, nullable=False),
        sa.Column("object_type", sa.Text, nullable=False),
        sa.Column("since", _BIGINT, nullable=False),
        sa.Column("until", _BIGINT, nullable=False),
        sa.Column("properties", sa.Text, nullable=False),
        sa.Column("handler", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("started_at", _BIGINT, nullable=False),
        sa.Column("started_by", sa.Text, nullable=False),
        sa.Column("changed_at", _BIGINT, nullable=False),
        sa.Column("runner", sa.Text, nullable=False),
        sa.Column("checkpoint", sa.Text, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
    )
    op.create_index("ix_backfills_started_at", "backfills", ["started_at"])


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
