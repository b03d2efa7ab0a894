"""What a handler's exception means: whether the same call may succeed later, and what to record of it.

A retry does not fix a bug, so everything that is not listed here is permanent; the dead letter can be replayed once the
bug is fixed. Errors of other libraries are recognised by name, because none of them is a dependency of ours.
"""

import errno
import socket
import ssl
from typing import Final

from spokes.core.errors import CRMError, PropertyNotDeclared, RetryLater, TransientCRMError
from spokes.core.masking import Mask
from spokes.core.telemetry.error_places import class_name, place_in_package
from spokes.http.errors import HttpError, HttpRateReached, TransientHttpError

_OWN_TRANSIENT: Final = (TransientCRMError, TransientHttpError, HttpRateReached, RetryLater)
TRANSIENT: Final = (*_OWN_TRANSIENT, TimeoutError, ConnectionError, socket.gaierror)
_NETWORK_ERRNOS: Final = frozenset(
    {errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT}
    | {errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE}
)
# Base classes, by top-level package and name, of errors of a connection.
_CONNECTION_ERRORS: Final = frozenset(
    {"aiohttp.ClientConnectionError", "aiohttp.ClientPayloadError", "httpx.TimeoutException", "httpx.NetworkError"}
    | {"httpx.RemoteProtocolError", "httpx.ProxyError", "httpcore.TimeoutException", "httpcore.NetworkError"}
    | {"httpcore.RemoteProtocolError", "requests.ConnectionError", "requests.Timeout", "requests.ChunkedEncodingError"}
    | {"urllib3.TimeoutError", "urllib3.ProtocolError", "urllib3.MaxRetryError", "urllib3.NameResolutionError"}
    | {"urllib.ContentTooShortError", "http.IncompleteRead", "http.BadStatusLine"}
)
_STATUS_ERRORS: Final = frozenset(
    {"aiohttp.ClientResponseError", "httpx.HTTPStatusError", "requests.HTTPError", "urllib.HTTPError"}
)
_TRANSIENT_STATUSES: Final = frozenset({408, 421, 423, 425, 429, 477, 500, *range(502, 505), *range(520, 531)})
_CERTIFICATE_ERRORS: Final = frozenset({"aiohttp.ClientConnectorCertificateError", "requests.SSLError"})


_MAX_EXPLANATION: Final = 200
_MAX_READ: Final = 2_000  # of an explanation; it is masked before it is cut to its final length


def is_transient(error: BaseException, retry_on: tuple[type[Exception], ...] = ()) -> bool:
    """Return whether the same call may succeed later.

    That holds for HubSpot's own transient errors, those of other servers, and the classes that the handler declared.
    """
    if isinstance(error, retry_on):
        return True
    names = _class_names(error)
    if isinstance(error, ssl.SSLCertVerificationError) or names & _CERTIFICATE_ERRORS:
        return False
    if isinstance(error, TRANSIENT) or names & _CONNECTION_ERRORS:
        return True
    if names & _STATUS_ERRORS:
        return _status(error) in _TRANSIENT_STATUSES
    if "urllib.URLError" in names and isinstance(reason := _attribute(error, "reason"), BaseException):
        return is_transient(reason)
    return isinstance(error, OSError) and error.errno in _NETWORK_ERRNOS


def failure_fields(error: BaseException, package: str, mask: Mask) -> dict[str, object]:
    """Return what to record of an exception that left a handler: names and numbers, never its text.

    Args:
        error: the exception that decides the event's outcome.
        package: the handler's top-level package; the place is the deepest one inside it.
        mask: masks the explanation of a RetryLater, the only text that is recorded.
    """
    fields: dict[str, object] = {"error": class_name(error)}
    if place := place_in_package(error, package):
        fields["error_at"] = place
    if isinstance(error, CRMError | HttpError | PropertyNotDeclared):
        fields |= error.fields()
    elif isinstance(error, RetryLater) and error.explanation:
        fields["explanation"] = mask.text(_printable(error.explanation))[:_MAX_EXPLANATION]
    elif status := _status(error):
        fields["status"] = status
    return fields


def _printable(text: str) -> str:
    """Return a text on one line, without characters that JSON cannot hold."""
    return "".join(character if character.isprintable() else " " for character in text[:_MAX_READ])


def _class_names(error: BaseException) -> frozenset[str]:
    """Return the names of the classes of an error, each after the top-level package that defines it."""
    return frozenset(f"{str(base.__module__).partition('.')[0]}.{base.__name__}" for base in type(error).__mro__)


def _status(error: BaseException) -> int:
    """Return the HTTP status that a client library's error carries, 0 if it carries none."""
    for holder in (error, _attribute(error, "response")):
        for name in ("status", "status_code", "code"):
            value = _attribute(holder, name)
            if type(value) is int and 400 <= value < 600:  # noqa: PLR2004 - HTTP's own numbers
                return value
    return 0


def _attribute(holder: object, name: str) -> object:
    """Return an attribute of an error, None if it has none or computing it raises."""
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - code of another library or of a handler
        return None
