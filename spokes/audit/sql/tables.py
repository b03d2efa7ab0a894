"""The tables of the audit store. A change here needs a migration; a test compares the two.

In PostgreSQL the records have one more column, `month`, by which they are partitioned. Only the migrations and
`spokes.audit.sql.partitions` use it; its default fills it, and no hash covers it.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

from spokes.audit.records import FIELD_NAMES
from spokes.audit.rows import INTEGER_FIELDS, REQUIRED_FIELDS

METADATA: Final = MetaData()
_BIGINT: Final = BigInteger().with_variant(Integer, "sqlite")  # in SQLite only INTEGER makes a row id; it has 64 bits

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
# Each index ends with the reading order, so that the newest fifty matches are read in fifty steps.
Index("ix_audit_records_at", RECORDS.c.at, RECORDS.c.seq)
for _name in ("object_id", "event_key", "event_id", "delivery_id", "actor", "correlation_id"):
    _is_set = RECORDS.c[_name].is_not(None) if RECORDS.c[_name].nullable else None
    Index(
        f"ix_audit_records_{_name}",
        RECORDS.c[_name],
        RECORDS.c.at,
        RECORDS.c.seq,
        sqlite_where=_is_set,
        postgresql_where=_is_set,
    )
# Indexes of one outcome, the dead letters' also by cause; a query uses one only if it names the outcome literally.
_CAUSE: Final = (RECORDS.c.reason, RECORDS.c.handler, RECORDS.c.at, RECORDS.c.seq)
for _index_name, _outcome, _columns in (
    ("ix_audit_records_dead", "dead", (RECORDS.c.at, RECORDS.c.seq)),
    ("ix_audit_records_dead_cause", "dead", _CAUSE),
    ("ix_audit_records_duplicate", "duplicate", (RECORDS.c.at, RECORDS.c.seq)),
):
    _has_outcome = RECORDS.c.outcome == literal_column(f"'{_outcome}'")
    Index(_index_name, *_columns, sqlite_where=_has_outcome, postgresql_where=_has_outcome)

# One row: the end of the chain. The chain writer locks it first.
HEAD: Final = Table(
    "audit_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", _BIGINT, nullable=False),
    Column("hash", Text, nullable=False),
    CheckConstraint("id = 1", name="ck_audit_head_one_row"),
)

# Signed positions of the chain. `kind` is `checkpoint`, or `anchor`: retention purged all records up to it.
CHECKPOINTS: Final = Table(
    "audit_checkpoints",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("seq", _BIGINT, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("at", _BIGINT, nullable=False),
    Column("signature", Text, nullable=False),
    # `seq` of the checkpoint or anchor before it, 0 for the first, and its signature; NULL in earlier versions' rows
    Column("previous", _BIGINT),
    Column("link", Text),
)

# One row: the epoch ms until which stream entries without a signature are archived.
STREAM: Final = Table(
    "audit_stream",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("unsigned_until", _BIGINT, nullable=False),
    CheckConstraint("id = 1", name="ck_audit_stream_one_row"),
)

# Erased objects, whose ids must no longer be stored, with the `seq` of the record of the erasure.
ERASED_OBJECTS: Final = Table(
    "audit_erased",
    METADATA,
    Column("object_hash", Text, primary_key=True),
    Column("seq", _BIGINT, nullable=False, index=True),
)

# Erasure requests. `object_ids` is JSON: the contact's id, then those merged into it; NULL once the request is done.
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
    Column("steps", Text, nullable=False),  # JSON: name of a completed step -> its result
    Column("done_at", _BIGINT),
)

# Incidents. `since` to `until` is the period under examination; `actor`, `handler` and `token` (a fingerprint) narrow
# its affected objects; NULL means any. `aware_at` starts the 72 hours of GDPR article 33, and `notified_at` ends them.
INCIDENTS: Final = Table(
    "incidents",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("aware_at", _BIGINT, nullable=False),
    Column("opened_at", _BIGINT, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("since", _BIGINT, nullable=False),
    Column("until", _BIGINT),
    Column("actor", Text),
    Column("handler", Text),
    Column("notified_at", _BIGINT),
    Column("closed_at", _BIGINT),
    Column("closed_by", Text),
    Column("token", Text),
)

INCIDENT_NOTES: Final = Table(
    "incident_notes",
    METADATA,
    Column("id", Text, primary_key=True),  # sorts by time
    Column("incident_id", Text, ForeignKey(INCIDENTS.c.id), nullable=False, index=True),
    Column("at", _BIGINT, nullable=False),
    Column("author", Text, nullable=False),
    Column("text", Text, nullable=False),
)

# Portals that installed the app. `tokens` is sealed JSON, NULL once destroyed; `generation` grows with every change of
# it. `scopes` are separated by spaces. `changed_at` is the epoch ms of the last change of `state`.
INSTALLED_PORTALS: Final = Table(
    "installed_portals",
    METADATA,
    Column("portal_id", _BIGINT, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("installed_at", _BIGINT, nullable=False),
    Column("changed_at", _BIGINT, nullable=False, index=True),
    Column("generation", _BIGINT, nullable=False),
    Column("tokens", Text),
    Column("token_expires_at", _BIGINT, nullable=False),
)

# What operators have set for single portals, and HubSpot's facts about their accounts, as JSON; see
# spokes/portals/profile.py.
PORTAL_SETTINGS: Final = Table(
    "portal_settings",
    METADATA,
    Column("portal_id", _BIGINT, primary_key=True, autoincrement=False),
    Column("settings", Text, nullable=False),
    Column("changed_at", _BIGINT, nullable=False),
)

# Push subscriptions that we created, by event (a registration); `subscription_id` is NULL until HubSpot confirms it.
PUSH_SUBSCRIPTIONS: Final = Table(
    "push_subscriptions",
    METADATA,
    Column("app_id", _BIGINT, primary_key=True, autoincrement=False),
    Column("event", Text, primary_key=True),
    Column("subscription_id", _BIGINT),
    Column("changed_at", _BIGINT, nullable=False),
)

# What we put into subscriptions to the journal; `content` is JSON: actions, properties, filters, and what an attempt
# wanted that was not confirmed. `portal_id` is 0 for a subscription of the whole app.
JOURNAL_SUBSCRIPTIONS: Final = Table(
    "journal_subscriptions",
    METADATA,
    Column("client_id", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("portal_id", _BIGINT, primary_key=True, autoincrement=False),
    Column("target", Text, primary_key=True),
    Column("content", Text, nullable=False),
    Column("changed_at", _BIGINT, nullable=False),
)

# Intervals in which events may have been missed, by portal and scope (an object type, or an object type with a kind);
# `closed_at` and `proof` are NULL while a gap is open. `causes` are separated by spaces; `backfill` is the id of the
# backfill that closed the gap.
GAPS: Final = Table(
    "gaps",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("portal_id", _BIGINT, nullable=False),
    Column("scope", Text, nullable=False),
    Column("since", _BIGINT, nullable=False),
    Column("until", _BIGINT, nullable=False),
    Column("causes", Text, nullable=False),
    Column("opened_at", _BIGINT, nullable=False),
    Column("proof", Text),
    Column("closed_at", _BIGINT, index=True),
    Column("closed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("backfill", Text, nullable=False),
)

# Backfills of one portal and object type. `properties` are separated by spaces; `checkpoint` (JSON) is from where the
# next run continues, `counts` (JSON) what was read and admitted, `runner` the process that runs it, empty for none.
BACKFILLS: Final = Table(
    "backfills",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("portal_id", _BIGINT, nullable=False),
    Column("object_type", Text, nullable=False),
    Column("since", _BIGINT, nullable=False),
    Column("until", _BIGINT, nullable=False),
    Column("properties", Text, nullable=False),
    Column("handler", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_at", _BIGINT, nullable=False, index=True),
    Column("started_by", Text, nullable=False),
    Column("changed_at", _BIGINT, nullable=False),
    Column("runner", Text, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("counts", Text, nullable=False),
)
