"""The records, their indexes, and the end of the chain."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_SEARCHED = ("object_id", "event_key", "delivery_id", "actor", "correlation_id")


def upgrade() -> None:
    """Create both tables, with the chain at its genesis."""
    op.create_table(
        "audit_records",
        sa.Column("seq", _BIGINT, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("portal_id", _BIGINT, nullable=False),
        sa.Column("outcome", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("attempt", _BIGINT, nullable=False),
        sa.Column("delivery_id", sa.Text),
        sa.Column("event_key", sa.Text),
        sa.Column("event_id", _BIGINT),
        sa.Column("app_id", _BIGINT),
        sa.Column("subscription_type", sa.Text),
        sa.Column("object_type", sa.Text),
        sa.Column("object_id", sa.Text),
        sa.Column("occurred_at", _BIGINT),
        sa.Column("handler", sa.Text),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("at", _BIGINT, nullable=False),
        sa.UniqueConstraint("id", name="uq_audit_records_id"),
    )
    op.create_index("ix_audit_records_at", "audit_records", ["at", "seq"])
    for name in _SEARCHED:
        there = None if name == "actor" else sa.text(f"{name} IS NOT NULL")
        op.create_index(
            f"ix_audit_records_{name}",
            "audit_records",
            [name, "at", "seq"],
            sqlite_where=there,
            postgresql_where=there,
        )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", _BIGINT, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.CheckConstraint("id = 1", name="ck_audit_head_one_row"),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "hash": "0" * 64}])


def downgrade() -> None:
    """Drop both tables, and every record with them."""
    op.drop_table("audit_head")
    op.drop_table("audit_records")
