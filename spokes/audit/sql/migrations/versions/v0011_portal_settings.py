"""The settings of single portals."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "portal_settings",
        sa.Column("portal_id", _BIGINT, primary_key=True, autoincrement=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("changed_at", _BIGINT, nullable=False),
    )


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
