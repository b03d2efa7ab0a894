"""The portals that installed the app, with their sealed OAuth tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "installed_portals",
        sa.Column("portal_id", _BIGINT, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("installed_at", _BIGINT, nullable=False),
        sa.Column("changed_at", _BIGINT, nullable=False, index=True),
        sa.Column("generation", _BIGINT, nullable=False),
        sa.Column("tokens", sa.Text),
        sa.Column("token_expires_at", _BIGINT, nullable=False),
    )


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
