"""The tables of the audit. Rule: a change here comes with a migration; a test holds the two together."""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, Table, Text, UniqueConstraint

from audit.rows import NAMES, NUMBERS, REQUIRED

METADATA: Final = MetaData()
_BIGINT: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite's row id is spelled INTEGER, and has 64 bits

RECORDS: Final = Table(
    "audit_records",
    METADATA,
    Column("seq", _BIGINT, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    *(Column(name, _BIGINT if name in NUMBERS else Text, nullable=name not in REQUIRED) for name in NAMES),
    UniqueConstraint("id", name="uq_audit_records_id"),
)
# Each carries the order in which people read, so that the newest fifty of anything are fifty steps away.
Index("ix_audit_records_at", RECORDS.c.at, RECORDS.c.seq)
for _name in ("object_id", "event_key", "delivery_id", "actor", "correlation_id"):
    _there = RECORDS.c[_name].is_not(None) if RECORDS.c[_name].nullable else None
    Index(
        f"ix_audit_records_{_name}",
        RECORDS.c[_name],
        RECORDS.c.at,
        RECORDS.c.seq,
        sqlite_where=_there,
        postgresql_where=_there,
    )

# One row: the end of the chain. Whoever extends the chain locks it first.
HEAD: Final = Table(
    "audit_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", _BIGINT, nullable=False),
    Column("hash", Text, nullable=False),
    CheckConstraint("id = 1", name="ck_audit_head_one_row"),
)
