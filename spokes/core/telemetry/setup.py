"""Configure structlog and Sentry once per process, and log Python's own warnings and uncaught exceptions.

All output is masked; no setting disables that. Warnings and exceptions are logged by class and place only: their text,
and the source lines of a traceback, may quote a property value.
"""

import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, TextIO, cast

import structlog

from spokes.core.masking import Mask
from spokes.core.settings import Settings
from spokes.core.telemetry import sentry
from spokes.core.telemetry.canonical_log import CanonicalLog
from spokes.core.telemetry.console_log import ColumnRenderer
from spokes.core.telemetry.error_places import class_name, error_place
from spokes.core.telemetry.log_stream import LogStream
from spokes.core.telemetry.masked_stream import mask_standard_streams


def install_hooks() -> None:
    """Log Python's warnings and uncaught exceptions of this process from now on."""
    warnings.showwarning = _on_warning
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_uncaught_in_thread


def keep_first_line(record: logging.LogRecord) -> bool:
    """Cut a library's log message at its first newline: asyncio puts the text of exceptions on the lines below."""
    record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return True


class _LostErrors(logging.Handler):
    """Sends the exceptions that asyncio logs to Sentry: those of tasks and callbacks that nothing awaits."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send the exception of a log record, if it has one."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            message = record.getMessage().partition("\n")[0]  # other messages hold the arguments of a callback
            report_error(error, task="asyncio", message=message if message.endswith("was never retrieved") else "")


def _on_warning(  # noqa: PLR0917 - Python's own signature
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:  # fmt: skip
    del file, line
    place = f"{os.path.relpath(filename)}:{lineno}"
    if match := _NEVER_AWAITED.match(str(message)):
        call = match[1]
        advice = f"{call} was called without await, so it did nothing. Write await before the call."
        log_alert("coroutine_never_awaited", level="warning", coroutine=call, at=place, advice=advice)
        return
    structlog.get_logger().warning("python_warning", category=category.__name__, at=place)


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        structlog.get_logger().critical("uncaught", exc_info=(kind, error, trace))


def _on_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        _on_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


_NEVER_AWAITED = re.compile(r"coroutine '([\w.<>]{1,200})' was never awaited")

# At INFO, arq logs the arguments of every job, aiohttp a line per request, urllib3 the URL of every call.
_QUIET_LOGGERS = ("arq", "aiohttp.access", "urllib3", "asyncio", "alembic", "sqlalchemy")


def setup_telemetry(settings: Settings, process: str, *, stream: TextIO | None = None) -> None:
    """Set up logging (columns on a terminal, JSON elsewhere) and Sentry (if SENTRY_DSN is set) for this process.

    Args:
        process: `web`, `worker` or `console`; a field of every line.
        stream: the stream to log to; standard error when None.
    """
    out = cast("TextIO", LogStream(sys.stderr if stream is None else stream))
    mask = Mask(settings.secret_values)
    columns = settings.log_format == "columns" or (settings.log_format == "auto" and out.isatty())

    def masked(_: object, __: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return mask.fields(fields)

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _replace_exc_info,
        masked,
    ]
    renderer: structlog.typing.Processor = (
        ColumnRenderer(colours=_use_colours(out)) if columns else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    handler.addFilter(keep_first_line)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("asyncio").handlers = [_LostErrors(logging.ERROR)]
    global _write_canonical_line  # noqa: PLW0603 - one log per process, set up once
    quiet = logging.getLevelNamesMapping()[settings.log_level] > logging.INFO
    _write_canonical_line = (
        _discard_line if quiet else _write_with_structlog if columns else CanonicalLog(out, process, mask).write
    )
    if stream is None:  # the hooks are global to the process; tests with a stream of their own leave them alone
        install_hooks()
        mask_standard_streams(mask)  # the log itself writes to the stream below, since it is masked already
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)
    sentry.start_sentry(settings, process, mask)
    for note in settings.notes:
        structlog.get_logger().warning("setting_without_effect", advice=note)


def _use_colours(out: TextIO) -> bool:
    """Return whether to use colours, by the conventions of https://no-color.org and https://force-color.org."""
    return not os.environ.get("NO_COLOR") and (out.isatty() or bool(os.environ.get("FORCE_COLOR")))


def log_canonical_line(
    event: str, fields: Mapping[str, object], level: str = "info", *, is_generated: bool = False
) -> None:
    """Write the canonical line of one request, delivery or event.

    It bypasses structlog, whose processor chain costs as much as verifying a signature. Pass only ids, counts and
    constants as fields; the line is masked all the same, unless it `is_generated`: all text in it is a constant or an
    id that this process generated, so that there is nothing to mask.
    """
    _write_canonical_line(event, fields, level, is_generated=is_generated)


def writes_canonical_lines() -> bool:
    """Return whether canonical lines are written; if not, callers need no fields for them."""
    return _write_canonical_line is not _discard_line


def _write_with_structlog(event: str, fields: Mapping[str, object], level: str, *, is_generated: bool) -> None:
    del is_generated
    structlog.get_logger().log(logging.getLevelNamesMapping()[level.upper()], event, **fields)


def _discard_line(event: str, fields: Mapping[str, object], level: str, *, is_generated: bool) -> None:
    """Write nothing: LOG_LEVEL is above INFO."""


class _LineWriter(Protocol):
    def __call__(self, event: str, fields: Mapping[str, object], level: str, *, is_generated: bool) -> None: ...


_write_canonical_line: _LineWriter = _write_with_structlog


def log_alert(event: str, *, level: str = "error", **fields: Any) -> None:
    """Write one log line and send one Sentry message, both named `event`."""
    structlog.get_logger().log(logging.getLevelNamesMapping()[level.upper()], event, **fields)
    sentry.send_alert(event, level, fields)


def report_error(error: BaseException, /, **fields: Any) -> None:
    """Send a handled exception to Sentry, without its text and local variables."""
    sentry.send_error(error, fields)


def _replace_exc_info(_: object, __: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace `exc_info` by the exception's class and place: its text may quote a property value."""
    info = fields.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        fields["error"] = class_name(error)
        if place := error_place(error):
            fields["error_at"] = place
    return fields
