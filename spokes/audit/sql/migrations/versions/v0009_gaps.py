"""The ledger of gaps: intervals in which events may have been missed."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "gaps",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("portal_id", _BIGINT, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("since", _BIGINT, nullable=False),
        sa.Column("until", _BIGINT, nullable=False),
        sa.Column("causes", sa.Text, nullable=False),
        sa.Column("opened_at", _BIGINT, nullable=False),
        sa.Column("proof", sa.Text),
        sa.Column("closed_at", _BIGINT),
        sa.Column("closed_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("backfill", sa.Text, nullable=False),
    )
    op.create_index("ix_gaps_closed_at", "gaps", ["closed_at"])


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
