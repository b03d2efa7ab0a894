"""What a handler raised, read once: an exception is code of the handler's too, and reading it may raise.

An exception whose attributes raise, or hold other types than ours, is replaced by a plain one of the same name. What
decides about the event reads no other.
"""

import math
from typing import Final, NamedTuple

import orjson

from spokes.core.errors import CRMError
from spokes.core.masking import Mask
from spokes.core.redis.errors import is_refused_by_redis
from spokes.core.telemetry.error_places import class_name, traceback_of
from spokes.http.errors import TransientHttpError
from spokes.queue.pauses.pause_decisions import pause_for_error
from workers.lanes.handler_errors import TRANSIENT, failure_fields, is_transient
from workers.lanes.resolution import deciding_error, free_run_limit, leaf_errors, reason_for_error, requested_delay_s

RetryOn = tuple[type[Exception], ...]
_READ_BY_OTHERS: Final = (
    "__cause__",
    "__context__",
    "__suppress_context__",
    "__notes__",
    "message",
    "detail",
)  # Sentry


class HandlerFailure(NamedTuple):
    """The error that decides what happens to an event, and what to record of it: see failure_fields."""

    error: BaseException
    fields: dict[str, object]


def read_failure(error: BaseException, retry_on: RetryOn, package: str, mask: Mask) -> HandlerFailure:
    """Return what an exception that left a handler means; never raises.

    Args:
        error: what the handler raised.
        retry_on: classes of exceptions that the handler declared as transient.
        package: see failure_fields.
        mask: see failure_fields.
    """
    try:
        leaves = [_readable(leaf, retry_on, package, mask) for leaf in leaf_errors(error)]
        deciding = leaves[0] if len(leaves) == 1 else deciding_error(BaseExceptionGroup("", leaves), retry_on)
    except BaseException:  # noqa: BLE001 - an exception group whose own code raises
        deciding = _plain(error, retry_on)
    return HandlerFailure(deciding, failure_fields(deciding, package, mask))


def _readable(error: BaseException, retry_on: RetryOn, package: str, mask: Mask) -> BaseException:
    """Return an error that can be read: itself, or a plain one in its place."""
    try:
        _read(error, retry_on)
        orjson.dumps(failure_fields(error, package, mask))
    except BaseException:  # noqa: BLE001 - whatever code of the exception's class raises
        return _plain(error, retry_on)
    return error


def _read(error: BaseException, retry_on: RetryOn) -> None:
    """Read all that is read later.

    Raises:
        BaseException: it cannot be read, or has attributes of other types than our own errors.
    """
    is_transient(error, retry_on)
    is_refused_by_redis(error)
    free_run_limit(error)
    delay_s = requested_delay_s(error)
    pause = pause_for_error(error)
    texts = [reason_for_error(error), str(error)]
    if isinstance(error, CRMError | TransientHttpError):
        texts += [error.call_kind]
    if isinstance(error, CRMError):
        texts += [error.correlation_id]
    for name in _READ_BY_OTHERS:
        getattr(error, name, None)
    seconds = [value for value in (delay_s, pause.seconds if pause else None) if value is not None]
    if not (all(type(text) is str for text in texts) and all(map(math.isfinite, seconds))):
        raise TypeError


def _plain(error: BaseException, retry_on: RetryOn) -> BaseException:
    """Return an exception with the name and place of an unreadable one; it is retried if its class is."""
    kind = type(error)
    base = ConnectionError if issubclass(kind, (*TRANSIENT, *retry_on)) else Exception
    plain: BaseException = type(class_name(error), (base,), {})()
    return plain.with_traceback(traceback_of(error))
