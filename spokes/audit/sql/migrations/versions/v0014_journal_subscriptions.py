"""The ledger of what we put into subscriptions to HubSpot's journal."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "journal_subscriptions",
        sa.Column("client_id", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, primary_key=True),
        sa.Column("portal_id", _BIGINT, primary_key=True, autoincrement=False),
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("changed_at", _BIGINT, nullable=False),
    )


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
