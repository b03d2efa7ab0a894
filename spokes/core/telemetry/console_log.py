"""Log lines for people: one short line each, what matters first. Rule: nought is left out, ids stand last."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import structlog

_EVENT_WIDTH: Final = 9
_MOST: Final = 5  # of a list
_NOUGHT: Final[tuple[object, ...]] = (None, "", 0, [], {})
_LEFT_OUT: Final = frozenset({"event", "level", "timestamp", "process", "job_try", "portal_id"})  # portals stand in ids
_STYLES: Final[Mapping[str, str]] = {"warning": "33", "error": "31", "critical": "1;31", "debug": "2"}
_QUIET: Final = "2"  # dim
_SIGNS: Final[Mapping[str, str]] = {"warning": "! ", "error": "!! ", "critical": "!! "}


class Columns:
    """structlog's renderer for a terminal."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: object, __: str, fields: structlog.typing.EventDict) -> str:
        """Return the line for `fields`."""
        level = str(fields.get("level", "info"))
        shown = {name: value for name, value in fields.items() if name not in _LEFT_OUT and value not in _NOUGHT}
        if fields.get("job_try", 1) != 1:
            shown["job_try"] = fields["job_try"]
        ordered = sorted(shown, key=lambda name: (name not in {"status", "outcome", "handler"}, _is_id(name)))
        event = f"{_SIGNS.get(level, '')}{fields.get('event', '')}".ljust(_EVENT_WIDTH)
        words = [self._styled(_time(fields.get("timestamp")), _QUIET), self._styled(event, _STYLES.get(level, "1"))]
        words += [self._styled(f"{name}=", _QUIET) + _text(name, shown[name]) for name in ordered if not _is_id(name)]
        words += [self._styled(_text(name, shown[name]), _QUIET) for name in ordered if _is_id(name)]
        return " ".join(words)

    def _styled(self, text: str, style: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self._colours and text else text


def _is_id(name: str) -> bool:
    return name in {"deliveries", "event_key"} or name.endswith("_id")


def _text(name: str, value: object) -> str:
    if isinstance(value, list | tuple):
        more = f",... {len(value)} in all" if len(value) > _MOST else ""
        return ",".join(map(str, value[:_MOST])) + more
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{count}" for key, count in value.items())
    text = str(value)
    return f'"{text}"' if " " in text and not _is_id(name) else text


def _time(stamp: object) -> str:
    """The time of day here; whoever reads along knows the date."""
    try:
        return datetime.fromisoformat(str(stamp)).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return ""
