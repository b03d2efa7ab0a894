"""Take over what Python prints by itself: warnings, and exceptions that nobody caught. Rule: place and class, no text.

Their texts may quote a value, and so may the source lines of a traceback.
"""

import logging
import sys
import threading
import warnings
from types import TracebackType
from typing import TextIO

import structlog


def take_over() -> None:
    """Have them told as log lines from now on, in this process."""
    warnings.showwarning = _warned
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def first_line(record: logging.LogRecord) -> bool:
    """Cut a library's log line at its first newline; asyncio writes the text of exceptions on the lines below it."""
    record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return True


def _warned(  # noqa: PLR0917 - Python's own signature
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:  # fmt: skip
    del message, file, line
    structlog.get_logger().warning("python_warning", category=category.__name__, at=f"{filename}:{lineno}")


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        structlog.get_logger().critical("uncaught", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
