"""Audit records as lines of an export: JSON or a table. Rule: one record a line, all columns, nothing interpreted."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final

import orjson

from audit.rows import COLUMNS, Row, to_json


class Format(StrEnum):
    """How an export is written."""

    JSONL = "jsonl"
    CSV = "csv"


def head(form: Format) -> bytes:
    """Return the line before all others; empty where there is none."""
    return _csv((COLUMNS,)) if form is Format.CSV else b""


def _json_line(row: Row) -> bytes:
    return orjson.dumps(to_json(row), option=orjson.OPT_APPEND_NEWLINE)


def _csv_line(row: Row) -> bytes:
    return _csv((tuple(row[name] for name in COLUMNS),))


def _csv(lines: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


LINE: Final[Mapping[Format, Callable[[Row], bytes]]] = {Format.JSONL: _json_line, Format.CSV: _csv_line}
