"""Until when unsigned stream entries are archived; checkpoints that name the one before."""

import time

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_UPGRADE_MS = 24 * 3600 * 1000  # in which workers of a version that does not sign may still run


def upgrade() -> None:
    """Accept unsigned entries for a day in a store of an earlier version, never in a new one."""
    op.add_column("audit_checkpoints", sa.Column("previous", _BIGINT))
    op.add_column("audit_checkpoints", sa.Column("link", sa.Text))
    stream = op.create_table(
        "audit_stream",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("unsigned_until", _BIGINT, nullable=False),
        sa.CheckConstraint("id = 1", name="ck_audit_stream_one_row"),
    )
    until = 0 if context.config.attributes["is_new"] else int(time.time() * 1000) + _UPGRADE_MS
    op.bulk_insert(stream, [{"id": 1, "unsigned_until": until}])


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
