"""Send errors, alerts and a sample of spans to Sentry. Everything sent is scrubbed here.

Errors are grouped by handler, exception class and place, alerts by name; never by an error's text, which may quote a
value.
"""

import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from spokes.core.masking import Mask
from spokes.core.settings import Settings
from spokes.core.telemetry.error_places import class_name, error_place
from spokes.core.version import VERSION

if TYPE_CHECKING:
    from sentry_sdk.types import Event as SentryEvent
    from sentry_sdk.types import Hint

_REMOVED_KEYS: Final = ("request", "user", "extra", "server_name", "breadcrumbs", "modules")
_COMMIT_DIGITS: Final = 12  # digits of a commit hash in the release name
_is_on = False
_traces_rate = 0.0


def start_sentry(settings: Settings, process: str, mask: Mask) -> None:
    """Initialise Sentry if SENTRY_DSN is set."""
    global _is_on, _traces_rate
    _is_on, _traces_rate = False, 0.0
    if not (dsn := settings.sentry_dsn.get_secret_value()):
        return
    # Imported where it is used: a process without Sentry saves three megabytes of memory.
    import sentry_sdk  # noqa: PLC0415
    from sentry_sdk.integrations.atexit import AtexitIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.dedupe import DedupeIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.threading import ThreadingIntegration  # noqa: PLC0415

    _is_on, _traces_rate = True, settings.sentry_traces_rate

    def scrub(event: "SentryEvent", _: "Hint") -> "SentryEvent":
        return _scrubbed(event, mask)

    sentry_sdk.init(
        dsn=dsn,
        environment=settings.sentry_environment,
        release=release(settings),
        before_send=scrub,
        before_send_transaction=scrub,
        traces_sample_rate=1.0 if _traces_rate else None,  # `record_span` draws the sample
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


def release(settings: Settings) -> str:
    """Return the release name: SENTRY_RELEASE, or our version, on Heroku with the commit."""
    commit = settings.heroku_slug_commit[:_COMMIT_DIGITS]
    return settings.sentry_release or f"spokes@{VERSION}" + (f"+{commit}" if commit else "")


def send_error(error: BaseException, fields: dict[str, Any]) -> None:
    """Send an exception without its text and local variables."""
    if not _is_on:
        return
    import sentry_sdk  # noqa: PLC0415 - as in `start_sentry`

    with sentry_sdk.new_scope() as scope:
        scope.set_context("fields", fields)
        subject = fields.get("handler") or fields.get("job") or fields.get("task") or "{{ default }}"
        place = fields.get("error_at") or error_place(error)
        scope.fingerprint = [str(subject), class_name(error), str(place)]
        if handler := fields.get("handler"):
            scope.set_tag("handler", handler)
        try:
            sentry_sdk.capture_exception(error)
        except Exception:  # noqa: BLE001 - code of the exception's own class, which Sentry reads
            sentry_sdk.capture_message(class_name(error), level="error")


def send_alert(name: str, level: str, fields: dict[str, Any]) -> None:
    """Send an alert."""
    if not _is_on:
        return
    import sentry_sdk  # noqa: PLC0415 - as in `start_sentry`

    with sentry_sdk.new_scope() as scope:
        scope.set_context("fields", fields)
        scope.fingerprint = [name]
        sentry_sdk.capture_message(name, level=level)  # type: ignore[arg-type]  # its literal type is our log levels


def sends_spans() -> bool:
    """Return whether any span is sent: a worker has thousands of handler calls a second."""
    return bool(_traces_rate)


def record_span(operation: str, name: str, seconds: float) -> None:
    """Send a span that has just ended to Sentry, for a share SENTRY_TRACES_RATE of all spans.

    Args:
        operation: `request`, `delivery` or `handler`.
        name: one of a closed set.
    """
    if not _traces_rate or random.random() >= _traces_rate:
        return
    import sentry_sdk  # noqa: PLC0415 - as in `start_sentry`

    ended = time.time()
    with sentry_sdk.isolation_scope():
        transaction = sentry_sdk.start_transaction(
            op=operation, name=name, start_timestamp=datetime.fromtimestamp(ended - seconds, UTC)
        )
        transaction.finish(end_timestamp=datetime.fromtimestamp(ended, UTC))


def _scrubbed(event: "SentryEvent", mask: Mask) -> "SentryEvent":
    for exception in (event.get("exception") or {}).get("values") or []:
        exception["value"] = ""  # the text of an exception may quote a value
        for frame in (exception.get("stacktrace") or {}).get("frames") or []:
            frame.pop("vars", None)
    for name in _REMOVED_KEYS:
        event.pop(name, None)  # type: ignore[misc]  # a TypedDict whose keys are all optional
    contexts = event.get("contexts") or {}
    if "fields" in contexts:
        contexts["fields"] = mask.fields(contexts["fields"])
    return event
