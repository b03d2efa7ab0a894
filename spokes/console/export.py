"""Encode audit records for an export, one line per record with all columns: JSON lines or CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final

import orjson

from spokes.audit.rows import COLUMNS, Row, to_json

_FORMULA_PREFIXES: Final = ("=", "+", "-", "@", "\t", "\r")
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class ExportFormat(StrEnum):
    """File format of an export."""

    JSONL = "jsonl"
    CSV = "csv"


def header_line(export_format: ExportFormat) -> bytes:
    """Return the first line of an export; empty if the format has none."""
    return _csv_lines((COLUMNS,)) if export_format is ExportFormat.CSV else b""


def _json_line(row: Row) -> bytes:
    return orjson.dumps(to_json(row), option=orjson.OPT_APPEND_NEWLINE)


def _csv_line(row: Row) -> bytes:
    return _csv_lines((tuple(row[name] for name in COLUMNS),))


def _csv_lines(lines: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(map(_safe_cell, line) for line in lines)
    return text.getvalue().encode()


def _safe_cell(value: object) -> object:
    """Return text that a spreadsheet does not run as a formula and a terminal does not run as an escape sequence."""
    if not isinstance(value, str):
        return value
    text = _CONTROL_CHARACTERS.sub(lambda match: f"\\x{ord(match[0]):02x}", value)
    return f"'{text}" if text.startswith(_FORMULA_PREFIXES) else text


LINE_ENCODERS: Final[Mapping[ExportFormat, Callable[[Row], bytes]]] = {
    ExportFormat.JSONL: _json_line,
    ExportFormat.CSV: _csv_line,
}
