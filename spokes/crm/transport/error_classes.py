"""The one table that says which of our errors a refusal of HubSpot is.

A refusal comes as the response to a single call, as an entry in `errors` of a batch response, or as the refusal of a
whole batch; the table is the same for all. A status that HubSpot uses for one thing decides alone. Otherwise (400, and
entries, which have no status) the names do, the most specific first: codes in `errors`, sub-category, `errorType`,
category. Some refusals hold their name in the message only. Pure.
Source: HubSpot's docs, "Error handling"; category names also as seen in public code.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from spokes.core.errors import (
    Conflict,
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    NotAuthorized,
    NotPermitted,
    ObjectLocked,
    ObjectNotFound,
    PortalMoving,
    RateLimited,
)
from spokes.crm.transport.response_json import Json, elements

_BY_STATUS: Final[Mapping[int, type[CRMError]]] = {
    401: NotAuthorized,
    403: NotPermitted,
    404: ObjectNotFound,
    408: CRMUnavailable,
    409: Conflict,
    423: ObjectLocked,
    429: RateLimited,
    477: PortalMoving,
}
_BY_NAME: Final[Sequence[tuple[type[CRMError], re.Pattern[str]]]] = (
    (  # the record is there already
        Conflict,
        re.compile(
            r"CONFLICT|(?:\w+_)?(?:ALREADY_EXISTS|EXISTS)|(?:\w+_)?UNIQUE_VALUE_(?:CONFLICT|VIOLATION)"
            r"|(?:CONFLICTING|NON|NOT)_UNIQUE_VALUE|DUPLICATE_(?:\w+_)?VALUE"
        ),
    ),
    (ObjectNotFound, re.compile(r"(?:OBJECT_|RESOURCE_|RECORD_)?NOT_FOUND")),
    (NotPermitted, re.compile(r"FORBIDDEN|MISSING_SCOPES")),
    (NotAuthorized, re.compile(r"INVALID_AUTHENTICATION")),
    (ObjectLocked, re.compile(r"(?:\w+_)?LOCKED")),
    (PortalMoving, re.compile(r"MIGRATION_IN_PROGRESS")),
    (RateLimited, re.compile(r"RATE_LIMITS?|TOO_MANY_REQUESTS")),
    (  # an authentication that expired with a status other than 401 was valid when the call began
        CRMUnavailable,
        re.compile(
            r"INTERNAL_(?:SERVER_)?ERROR|(?:\w+_)?TIMEOUT|TIMED_OUT|EXPIRED_AUTHENTICATION|BAD_GATEWAY"
            r"|(?:SERVICE_|TEMPORARILY_)?UNAVAILABLE"
        ),
    ),
)
_STATUS_OF_CLASS: Final[Mapping[type[CRMError], int]] = {
    **{error_class: status for status, error_class in _BY_STATUS.items()},
    CRMUnavailable: 503,
    InvalidRequest: 400,
}
_MAX_MESSAGE_CHARS: Final = 10_000
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
_ERROR_IN_MESSAGE: Final = re.compile(r'"error"\s*:\s*"([A-Za-z_]{1,60})"')
_ID: Final = re.compile(r"\d{1,20}", re.ASCII)
_ID_KEY: Final = re.compile(r"(?:existing|conflict|duplicate)\w*(?:ids?|vid)", re.IGNORECASE)
_ID_IN_MESSAGE: Final = re.compile(
    r"(?:existing (?:\w{1,20} )?|already exists (?:\w{1,10} ){1,2})v?id\b(?: is)?\W{1,4}(\d{1,20})\b"
    r"|\b(\d{1,20}) already (?:has (?:that|this|the) value|exists)",
    re.IGNORECASE,
)


def class_of_refusal(status: int | None, body: Json) -> type[CRMError]:
    """Return the class of a response that is not 2xx, or of an entry of a batch response (`status` None)."""
    if status is None:
        status = _entry_status(body)
    if status is not None and (error_class := _BY_STATUS.get(status)):
        return error_class
    if status is not None and not 400 <= status < 500:  # noqa: PLR2004 - HTTP's own numbers
        return CRMUnavailable  # 5xx, or a redirect: HubSpot never redirects, so it comes from something in between
    for name in _names(body):
        for error_class, pattern in _BY_NAME:
            if pattern.fullmatch(name):
                return error_class
    return Conflict if _ID_IN_MESSAGE.search(_message(body)) else InvalidRequest


def status_of_entry(body: Json) -> int:
    """Return the status that a single call with the refusal of this entry has."""
    return _entry_status(body) or _STATUS_OF_CLASS[class_of_refusal(None, body)]


def category_of(body: Json) -> str:
    """Return the category of a refusal, else its `errorType`; empty if neither is a name."""
    return identifier(body.get("category")) or identifier(body.get("errorType"))


def existing_id_of(body: Json) -> str | None:
    """Return the id of the record that is there already, from wherever HubSpot names it; None if it does not."""
    for part in (body, *elements(body, "errors")):
        for mapping in (part.get("errorTokens"), part.get("context"), part):
            for name, value in mapping.items() if isinstance(mapping, Mapping) else ():
                if isinstance(name, str) and _ID_KEY.fullmatch(name) and (object_id := _first_id(value)):
                    return object_id
    for part in (body, *elements(body, "errors")):
        if match := _ID_IN_MESSAGE.search(_message(part)):
            return match[1] or match[2]
    return None


def identifier(value: object) -> str:
    """Return a value if it is a name such as VALIDATION_ERROR, else the empty text."""
    return value if isinstance(value, str) and _IDENTIFIER.fullmatch(value) else ""


def _names(body: Json) -> Iterator[str]:
    """Yield the names of a refusal, the most specific first, in capitals."""
    details = elements(body, "errors")
    for detail in details:
        yield from (_last_name(detail.get(field)) for field in ("code", "subCategory", "errorType", "category"))
    for match in _ERROR_IN_MESSAGE.finditer(_message(body)):
        yield match[1].upper()
    yield from (_last_name(body.get(field)) for field in ("subCategory", "errorType", "category", "code", "error"))


def _last_name(value: object) -> str:
    """Return the last part of a dotted name, such as `crm.UNIQUE_VALUE_CONFLICT`, in capitals."""
    return value.rpartition(".")[2].upper() if isinstance(value, str) else ""


def _message(body: Json) -> str:
    message = body.get("message")
    return message[:_MAX_MESSAGE_CHARS] if isinstance(message, str) else ""


def _entry_status(body: Json) -> int | None:
    """Return the HTTP status that an entry names; most hold `"status": "error"` instead."""
    for field in ("status", "statusCode"):
        value = body.get(field)
        text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
        if len(text) == 3 and text.isdecimal() and text.isascii() and "4" <= text[0] <= "5":  # noqa: PLR2004 - as above
            return int(text)
    return None


def _first_id(value: object) -> str:
    values = value if isinstance(value, list) else [value]
    texts = (str(v) for v in values if isinstance(v, str | int) and not isinstance(v, bool))
    return next(filter(_ID.fullmatch, texts), "")
