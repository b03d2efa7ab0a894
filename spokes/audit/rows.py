"""A record as the store keeps it: one flat row. Rule: whatever passes here can be stored; nothing else passes.

What is absent is NULL, so "" and {} never stand in a row. Names of actions and outcomes are not held against our own
vocabulary, because during a deploy an older archiver carries the records of newer workers.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Final, TypeAlias

import orjson

from spokes.audit.records import AuditRecord
from spokes.core.errors import UnreadableDelivery

Row: TypeAlias = dict[str, str | int | None]  # by column name; `seq` and `hash` stand in it once it is archived

FIELD_NAMES: Final = tuple(field.name for field in fields(AuditRecord))
REQUIRED_FIELDS: Final = frozenset({"id", "at", "action", "portal_id", "attempt", "actor"})
INTEGER_FIELDS: Final = frozenset({"at", "portal_id", "attempt", "event_id", "app_id", "occurred_at"})
COLUMNS: Final = (
    "seq",
    "id",
    "at",
    *(name for name in FIELD_NAMES if name not in {"id", "at"}),
    "hash",
)  # as people read
_SCALAR_FIELDS: Final = tuple(name for name in FIELD_NAMES if name != "detail")
# `id` and `at` have factories and no default: a record that lost them is not a record any more.
_DEFAULTS: Final = {field.name: None if field.default is MISSING else field.default for field in fields(AuditRecord)}
_MAX_TEXT_LENGTH: Final = (
    500  # characters; PostgreSQL indexes no text beyond 2,700 bytes, and no name of ours comes near
)
_BIGINT: Final = range(-(2**63), 2**63)


def to_row(record_fields: Mapping[str, object]) -> Row:
    """Turn the fields of a record, as `AuditRecord.as_dict` or JSON gives them, into a row.

    Fields that this code does not know yet are kept in `detail`.

    Raises:
        UnreadableDelivery: a field is missing, of the wrong type, or too large for its column.
    """
    row: Row = {name: _scalar(name, record_fields.get(name, _DEFAULTS[name])) for name in _SCALAR_FIELDS}
    detail = record_fields.get("detail") or {}
    if not isinstance(detail, dict):
        raise UnreadableDelivery
    newer = {name: value for name, value in record_fields.items() if name not in _DEFAULTS}
    kept = {**detail, **newer}
    row["detail"] = orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode() if kept else None
    return row


def _scalar(name: str, value: object) -> str | int | None:
    if value is None or value == "":
        if name in REQUIRED_FIELDS:
            raise UnreadableDelivery
        return None
    if name in INTEGER_FIELDS:
        # `type() is` because True is an int to isinstance.
        if type(value) is int and value in _BIGINT:
            return value
    elif isinstance(value, str) and len(value) <= _MAX_TEXT_LENGTH:
        return str(value).replace("\0", "\ufffd")  # PostgreSQL keeps no NUL in text
    raise UnreadableDelivery


def to_json(row: Row) -> dict[str, object]:
    """Return an archived row as people and programs get it: times in epoch ms, `detail` an object, absent is null."""
    line: dict[str, object] = {name: row[name] for name in COLUMNS}
    detail = row["detail"]
    line["detail"] = orjson.loads(detail) if isinstance(detail, str) else {}
    return line
