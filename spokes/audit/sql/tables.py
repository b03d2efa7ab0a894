"""The tables of the audit. Rule: a change here comes with a migration; a test holds the two together.

In PostgreSQL the records have one column more, `month`, by which they are partitioned; only the migrations and
`spokes.audit.sql.partitions` know of it: it fills itself, and no hash covers it.
"""

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, Table, Text, UniqueConstraint

from spokes.audit.rows import FIELD_NAMES, INTEGER_FIELDS, REQUIRED_FIELDS

METADATA: Final = MetaData()
_BIGINT: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite's row id is spelled INTEGER, and has 64 bits

RECORDS: Final = Table(
    "audit_records",
    METADATA,
    Column("seq", _BIGINT, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    *(
        Column(name, _BIGINT if name in INTEGER_FIELDS else Text, nullable=name not in REQUIRED_FIELDS)
        for name in FIELD_NAMES
    ),
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

# Places of the chain, signed. `kind` is `checkpoint`, or `anchor`: all records up to it were purged by retention.
CHECKPOINTS: Final = Table(
    "audit_checkpoints",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("seq", _BIGINT, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("at", _BIGINT, nullable=False),
    Column("signature", Text, nullable=False),
)

# Objects whose ids may not be kept any more, with the record that says so.
ERASED_OBJECTS: Final = Table(
    "audit_erased",
    METADATA,
    Column("object_hash", Text, primary_key=True),
    Column("seq", _BIGINT, nullable=False, index=True),
)

# What people have asked for. `object_ids` is JSON, the first id and those merged into it; NULL once all is done.
PRIVACY_REQUESTS: Final = Table(
    "privacy_requests",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("portal_id", _BIGINT, nullable=False),
    Column("object_hash", Text, nullable=False),
    Column("object_ids", Text),
    Column("kind", Text, nullable=False),
    Column("requested_at", _BIGINT, nullable=False),
    Column("due_at", _BIGINT, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("steps", Text, nullable=False),  # JSON: name of a step done -> what it did
    Column("done_at", _BIGINT),
)
