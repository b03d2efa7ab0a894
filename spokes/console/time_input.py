"""Times as operators write them: dates, epoch milliseconds and ages."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from spokes.core import clock

_AGE: Final = re.compile(r"(\d+)([mhdw])")
_UNIT_MS: Final[Mapping[str, int]] = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_MIN_MS: Final = int(datetime.min.replace(tzinfo=UTC).timestamp() * 1000)
_MAX_MS: Final = int(datetime.max.replace(tzinfo=UTC).timestamp() * 1000) - 1


def parse_time(text: str, now_ms: int | None = None) -> int:
    """Parse `2026-11-23`, `2026-11-23T14:00+01:00`, epoch ms, or an age such as `2h`; return epoch ms.

    A time without a zone is UTC.

    Raises:
        ValueError: the text has none of these forms, or the time is not in the years 1 to 9999.
    """
    at_ms = _parse(text, now_ms)
    if not _MIN_MS <= at_ms <= _MAX_MS:
        raise ValueError(text)
    return at_ms


def _parse(text: str, now_ms: int | None) -> int:
    if age := _AGE.fullmatch(text):
        now_ms = clock.now_ms() if now_ms is None else now_ms
        return now_ms - int(age[1]) * _UNIT_MS[age[2]]
    if text.isdecimal() and len(text) > len("20261123"):
        return int(text)
    parsed = datetime.fromisoformat(text)
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
