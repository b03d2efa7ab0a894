"""The ledger of push subscriptions that we created."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "push_subscriptions",
        sa.Column("app_id", _BIGINT, primary_key=True, autoincrement=False),
        sa.Column("event", sa.Text, primary_key=True),
        sa.Column("subscription_id", _BIGINT),
        sa.Column("changed_at", _BIGINT, nullable=False),
    )


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
