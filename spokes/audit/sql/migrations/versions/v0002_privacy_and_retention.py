"""Keyed hashes of objects, signed places of the chain, requests of people; PostgreSQL's records by month."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BIGINT = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_SEARCHED = ("at", "object_id", "event_key", "delivery_id", "actor", "correlation_id")
_THIS_MONTH = "to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')::integer"


def upgrade() -> None:
    """Create the tables; the records that are there become PostgreSQL's partition of month 0, without being copied."""
    op.add_column("audit_records", sa.Column("object_hash", sa.Text))
    op.create_table(
        "audit_checkpoints",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("seq", _BIGINT, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("at", _BIGINT, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
    )
    op.create_table(
        "audit_erased",
        sa.Column("object_hash", sa.Text, primary_key=True),
        sa.Column("seq", _BIGINT, nullable=False),
    )
    op.create_index("ix_audit_erased_seq", "audit_erased", ["seq"])
    op.create_table(
        "privacy_requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("portal_id", _BIGINT, nullable=False),
        sa.Column("object_hash", sa.Text, nullable=False),
        sa.Column("object_ids", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("requested_at", _BIGINT, nullable=False),
        sa.Column("due_at", _BIGINT, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("steps", sa.Text, nullable=False),
        sa.Column("done_at", _BIGINT),
    )
    if op.get_context().dialect.name == "postgresql":
        _partition()


def _partition() -> None:
    """Put a partitioned table in the place of the plain one, which becomes its first partition."""
    old = "audit_records_000000"
    op.execute(f"ALTER TABLE audit_records RENAME TO {old}")
    op.execute(f"ALTER TABLE {old} DROP CONSTRAINT audit_records_pkey, DROP CONSTRAINT uq_audit_records_id")
    for name in _SEARCHED:
        op.execute(f"ALTER INDEX ix_audit_records_{name} RENAME TO ix_{old}_{name}")
    op.execute(f"ALTER TABLE {old} ADD COLUMN month integer NOT NULL DEFAULT 0")
    # Archiving carries on by the clock of the database: now() and not a volatile function, or COPY goes row by row.
    op.execute(f"CREATE TABLE audit_records (LIKE {old}) PARTITION BY LIST (month)")
    op.execute(f"ALTER TABLE audit_records ALTER COLUMN month SET DEFAULT {_THIS_MONTH}")
    op.execute("ALTER TABLE audit_records ADD PRIMARY KEY (seq, month)")
    op.execute("ALTER TABLE audit_records ADD CONSTRAINT uq_audit_records_id UNIQUE (id, month)")
    for name in _SEARCHED:
        columns = ["at", "seq"] if name == "at" else [name, "at", "seq"]
        there = None if name in {"at", "actor"} else sa.text(f"{name} IS NOT NULL")
        op.create_index(f"ix_audit_records_{name}", "audit_records", columns, postgresql_where=there)
    op.execute(f"ALTER TABLE audit_records ATTACH PARTITION {old} FOR VALUES IN (0)")
    # Nothing is ever lost for want of a partition.
    op.execute("CREATE TABLE audit_records_other PARTITION OF audit_records DEFAULT")


def downgrade() -> None:
    """There is no way back: what was erased or purged since does not come again."""
    raise NotImplementedError
