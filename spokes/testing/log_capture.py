"""Keeps the log lines of a test: those of structlog, and those of Python's own logging."""

import logging
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({})))


class LogCapture(logging.Handler):
    """`lines` has one dictionary for each log line: `event`, `level` and the line's fields."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[dict[str, Any]] = []
        self._configuration: dict[str, Any] = {}

    def start(self) -> None:
        """Keep the lines that are logged from now on."""
        self._configuration = structlog.get_config()
        processors = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, self._keep]
        structlog.configure(processors=processors)
        logging.getLogger().addHandler(self)

    def stop(self) -> None:
        """Return to the earlier configuration of structlog."""
        logging.getLogger().removeHandler(self)
        structlog.configure(**self._configuration)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line of Python's own logging."""
        fields = {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
        line = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
        self.lines.append({**line, **fields})

    def _keep(self, _logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        self.lines.append(dict(line))
        raise structlog.DropEvent
