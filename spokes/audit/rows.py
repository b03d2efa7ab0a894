"""An audit record as one flat row that the store can hold.

Absent fields are NULL, so a row never contains "" or {}. Actions and outcomes are not checked against our vocabulary,
because during a deploy an older archiver moves the records of newer workers.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Final, TypeAlias

import orjson

from spokes.audit.records import FIELD_NAMES, AuditRecord
from spokes.core.errors import UnreadableDelivery
from spokes.core.json_reading.json_fields import read_bigint

Row: TypeAlias = dict[str, str | int | None]  # by column name; archived rows have `seq` and `hash` too

REQUIRED_FIELDS: Final = frozenset({"id", "at", "action", "portal_id", "attempt", "actor"})
INTEGER_FIELDS: Final = frozenset({"at", "portal_id", "attempt", "event_id", "app_id", "occurred_at"})
# In the order of exports.
COLUMNS: Final = ("seq", "id", "at", *(name for name in FIELD_NAMES if name not in {"id", "at"}), "hash")
# `id` and `at` have factories but no default: fields without them are not a record.
_DEFAULT_ROW: Final[Mapping[str, str | int | None]] = {
    field.name: None if field.default in {MISSING, ""} else field.default
    for field in fields(AuditRecord)
    if field.name != "detail"
}
_TEXT_FIELDS: Final = _DEFAULT_ROW.keys() - INTEGER_FIELDS
_MAX_TEXT_LENGTH: Final = 500  # characters; PostgreSQL indexes at most 2,700 bytes, and our names are far shorter


def to_row(record_fields: Mapping[str, object]) -> Row:
    """Return the row of a record's fields, as they come from `AuditRecord.as_dict` or JSON.

    Fields that a newer version added go into `detail`.

    Raises:
        UnreadableDelivery: a field is missing, of the wrong type, or too large for its column.
    """
    row: Row = dict(_DEFAULT_ROW)
    newer: dict[str, object] = {}
    for name, value in record_fields.items():
        if name in _TEXT_FIELDS and type(value) is str and 0 < len(value) <= _MAX_TEXT_LENGTH and "\0" not in value:
            row[name] = value
        elif name in row:
            row[name] = _scalar(name, value)
        elif name != "detail":
            newer[name] = value
    if any(row[name] is None for name in REQUIRED_FIELDS):
        raise UnreadableDelivery
    detail = record_fields.get("detail") or {}
    if not isinstance(detail, dict):
        raise UnreadableDelivery
    full_detail = {**detail, **newer}
    row["detail"] = orjson.dumps(full_detail, option=orjson.OPT_SORT_KEYS).decode() if full_detail else None
    return row


def _scalar(name: str, value: object) -> str | int | None:
    if value is None or value == "":
        if name in REQUIRED_FIELDS:
            raise UnreadableDelivery
        return None
    if name in INTEGER_FIELDS:
        # Workers of older versions wrote HubSpot's ids as they were sent: one of another type is absent.
        if (number := read_bigint(value)) is not None or name not in REQUIRED_FIELDS:
            return number
    elif isinstance(value, str) and len(value) <= _MAX_TEXT_LENGTH:
        return str(value).replace("\0", "\ufffd")  # PostgreSQL text cannot contain NUL
    raise UnreadableDelivery


def to_json(row: Row) -> dict[str, object]:
    """Return an archived row for output: times in epoch ms, `detail` an object, absent fields null."""
    document: dict[str, object] = {name: row[name] for name in COLUMNS}
    detail = row["detail"]
    document["detail"] = orjson.loads(detail) if isinstance(detail, str) else {}
    return document
