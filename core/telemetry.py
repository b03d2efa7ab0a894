"""Logs and Sentry, set up once for each process. Rule: what leaves here is masked, and nothing can switch that off."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import sentry_sdk
import structlog
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration

from core.hooks import first_line, take_over
from core.masking import Mask
from core.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk.types import Event as SentryEvent
    from sentry_sdk.types import Hint

# arq prints the arguments of every job at INFO, aiohttp one line a request, urllib3 the URL of every call.
_QUIET_LOGGERS = ("arq", "aiohttp.access", "urllib3", "asyncio", "alembic", "sqlalchemy")


def setup(settings: Settings, process: str, *, stream: TextIO | None = None) -> None:
    """Set up logging (columns on a terminal, JSON elsewhere) and Sentry (when SENTRY_DSN is set) for this process.

    Args:
        process: `web`, `worker` or `console`; stands in every line.
        stream: where lines go; standard error when None.
    """
    out = sys.stderr if stream is None else stream
    mask = Mask(settings.secrets)
    columns = settings.log_format == "columns" or (settings.log_format == "auto" and out.isatty())

    def masked(_: object, __: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return mask.fields(fields)

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_class,
        masked,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty()) if columns else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    handler.addFilter(first_line)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    global _canonical  # noqa: PLW0603 - one log a process, set up once
    quiet = logging.getLevelNamesMapping()[settings.log_level] > logging.INFO
    _canonical = _nothing if quiet else _unset if columns else _json_lines(out, process, mask)
    if stream is None:  # they belong to the whole process, and are told on its standard error
        take_over()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)
    if dsn := settings.sentry_dsn.get_secret_value():
        _setup_sentry(dsn, settings.sentry_environment, process, mask)


def canonical(event: str, fields: Mapping[str, object]) -> None:
    """Write the one line that tells of a whole request or delivery.

    It goes past structlog, whose chain costs as much as verifying a signature; fields are ids, counts and constants of
    ours, and the line is masked all the same.
    """
    _canonical(event, fields)


def _unset(event: str, fields: Mapping[str, object]) -> None:
    structlog.get_logger().info(event, **fields)


def _nothing(event: str, fields: Mapping[str, object]) -> None:
    """LOG_LEVEL asks for less."""


_canonical: Callable[[str, Mapping[str, object]], None] = _unset


def _json_lines(out: TextIO, process: str, mask: Mask) -> Callable[[str, Mapping[str, object]], None]:
    """Return what writes canonical lines as JSON."""

    def write(event: str, fields: Mapping[str, object]) -> None:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = orjson.dumps({**fields, "event": event, "process": process, "level": "info", "timestamp": at})
        out.write(mask.text(line.decode()) + "\n")

    return write


def alert(event: str, *, level: str = "error", **fields: Any) -> None:
    """Tell the operators: one log line and one Sentry message of the same constant name."""
    structlog.get_logger().log(logging.getLevelNamesMapping()[level.upper()], event, **fields)
    with sentry_sdk.new_scope() as scope:
        scope.set_context("fields", dict(fields))
        sentry_sdk.capture_message(event, level=level)  # type: ignore[arg-type]  # its literal type is our log levels


def report(error: BaseException, **fields: Any) -> None:
    """Tell Sentry of an exception that we have dealt with; its text and local variables stay here."""
    with sentry_sdk.new_scope() as scope:
        scope.set_context("fields", dict(fields))
        sentry_sdk.capture_exception(error)


def _exception_class(_: object, __: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace `exc_info` by class and place: the text of an exception may quote a value."""
    info = fields.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        fields["error"] = type(error).__name__
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None:
            fields["error_at"] = f"{os.path.relpath(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
    return fields


def _setup_sentry(dsn: str, environment: str, process: str, mask: Mask) -> None:
    def scrub(event: "SentryEvent", _: "Hint") -> "SentryEvent":
        for exception in (event.get("exception") or {}).get("values") or []:
            exception["value"] = ""  # the text of an exception may quote a value
            for frame in (exception.get("stacktrace") or {}).get("frames") or []:
                frame.pop("vars", None)
        for name in ("request", "user", "extra", "server_name", "breadcrumbs"):
            event.pop(name, None)  # type: ignore[misc]  # a TypedDict whose keys are all optional
        contexts = event.get("contexts") or {}
        if "fields" in contexts:
            contexts["fields"] = mask.fields(contexts["fields"])
        return event

    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        before_send=scrub,
        max_breadcrumbs=0,
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        default_integrations=False,  # the automatic ones for aiohttp, arq and logging attach requests and job arguments
        auto_enabling_integrations=False,
        integrations=[
            AtexitIntegration(lambda *_: None),
            DedupeIntegration(),
            ExcepthookIntegration(),
            ThreadingIntegration(),
        ],
    )
    sentry_sdk.set_tag("process", process)
