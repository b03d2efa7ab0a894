"""Log lines for a terminal: one short line each, important fields first, ids last, empty values omitted."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import structlog

_EVENT_WIDTH: Final = 9
_MAX_LISTED: Final = 5  # items of a list
_EMPTY_VALUES: Final[tuple[object, ...]] = (None, "", 0, [], {})
# portal_id is omitted because other ids start with it.
_OMITTED: Final = frozenset({"event", "level", "timestamp", "process", "job_try", "portal_id"})
_LEVEL_STYLES: Final[Mapping[str, str]] = {"warning": "33", "error": "31", "critical": "1;31", "debug": "2"}
_DIM_STYLE: Final = "2"
_LEVEL_SIGNS: Final[Mapping[str, str]] = {"warning": "! ", "error": "!! ", "critical": "!! "}


class ColumnRenderer:
    """structlog's renderer for a terminal."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: object, __: str, fields: structlog.typing.EventDict) -> str:
        """Return the line for `fields`."""
        level = str(fields.get("level", "info"))
        shown = {name: value for name, value in fields.items() if name not in _OMITTED and value not in _EMPTY_VALUES}
        if fields.get("job_try", 1) != 1:
            shown["job_try"] = fields["job_try"]
        ordered = sorted(shown, key=lambda name: (name not in {"status", "outcome", "handler"}, _is_id(name)))
        event = f"{_LEVEL_SIGNS.get(level, '')}{fields.get('event', '')}".ljust(_EVENT_WIDTH)
        parts = [
            self._styled(_format_time(fields.get("timestamp")), _DIM_STYLE),
            self._styled(event, _LEVEL_STYLES.get(level, "1")),
        ]
        parts += [
            self._styled(f"{name}=", _DIM_STYLE) + _format_value(name, shown[name])
            for name in ordered
            if not _is_id(name)
        ]
        parts += [self._styled(_format_value(name, shown[name]), _DIM_STYLE) for name in ordered if _is_id(name)]
        return " ".join(parts)

    def _styled(self, text: str, style: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self._colours and text else text


def _is_id(name: str) -> bool:
    return name in {"deliveries", "event_key"} or name.endswith("_id")


def _format_value(name: str, value: object) -> str:
    if isinstance(value, list | tuple):
        more = f",... {len(value)} in all" if len(value) > _MAX_LISTED else ""
        return ",".join(map(str, value[:_MAX_LISTED])) + more
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{count}" for key, count in value.items())
    text = str(value)
    return f'"{text}"' if " " in text and not _is_id(name) else text


def _format_time(stamp: object) -> str:
    """Return the local time of day; a person who watches a terminal knows the date."""
    try:
        return datetime.fromisoformat(str(stamp)).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return ""
