"""The one table that says which of our errors a refusal of HubSpot is.

A refusal comes as the response to a single call, as an entry in `errors` of a batch response, or as the refusal of a
whole batch; the table is the same for all. A status that HubSpot uses for one thing decides alone. Otherwise (400, and
entries, which have no status) the names do, the most specific first: codes in `errors`, sub-category, `errorType`,
category. Some refusals hold their name in the message only.

A refusal of a whole call is HubSpot's only if its body is JSON in HubSpot's form. A firewall or proxy in front of
HubSpot refuses with a page, an empty body or JSON of its own. Its 400 or 403 says nothing about scopes or values. Pure.
Source: HubSpot's docs, "Error handling"; names as seen in public code, and those marked as guesses.
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
    ProxyRefusal,
    RateLimited,
)
from spokes.crm.transport.errors.existing_record import names_existing_record
from spokes.crm.transport.response_json import Json, elements

_BY_STATUS: Final[Mapping[int, type[CRMError]]] = {
    401: NotAuthorized,
    403: NotPermitted,
    404: ObjectNotFound,
    408: CRMUnavailable,
    409: Conflict,
    421: CRMUnavailable,  # guess: of HTTP's own meaning, a connection that another server must take
    423: ObjectLocked,
    425: CRMUnavailable,  # guess: of HTTP's own meaning, too early to process
    429: RateLimited,
    477: PortalMoving,
}
# Statuses whose meaning does not depend on who refused; 413, 414 and 431 are about the size of the request.
_ANYBODYS_STATUSES: Final = frozenset(_BY_STATUS) - {403} | {413, 414, 431}
_RECORD_STATUSES: Final = frozenset({404, 409})  # a page with them says nothing about a record
_FORM_FIELDS: Final = ("category", "subCategory", "errorType", "correlationId", "errorTokens", "policyName")
_BY_NAME: Final[Sequence[tuple[type[CRMError], re.Pattern[str]]]] = (
    (  # the record is there already; DUPLICATE_RECORD and its like are guesses
        Conflict,
        re.compile(
            r"CONFLICT|(?:\w+_)?(?:ALREADY_EXISTS|EXISTS)|(?:\w+_)?UNIQUE_VALUE_(?:CONFLICT|VIOLATION)"
            r"|(?:CONFLICTING|NON|NOT)_UNIQUE_VALUE|DUPLICATE_(?:\w+_)?(?:VALUE|RECORD|OBJECT|CONTACT|COMPANY|ENTITY)"
        ),
    ),
    (ObjectNotFound, re.compile(r"(?:OBJECT_|RESOURCE_|RECORD_)?NOT_FOUND")),
    (NotPermitted, re.compile(r"FORBIDDEN|MISSING_SCOPES")),
    (NotAuthorized, re.compile(r"INVALID_AUTHENTICATION")),
    (ObjectLocked, re.compile(r"(?:\w+_)?LOCKED")),
    (PortalMoving, re.compile(r"MIGRATION_IN_PROGRESS")),
    (  # seen: RATE_LIMIT and RATE_LIMITS; the others are guesses
        RateLimited,
        re.compile(r"(?:\w+_)?RATE_LIMIT(?:S|ED|_EXCEEDED|_REACHED)?|TOO_MANY_REQUESTS|(?:REQUEST_)?THROTTLED"),
    ),
    (  # an authentication that is refused with a status other than 401 was valid when the call began; mostly guesses
        CRMUnavailable,
        re.compile(
            r"INTERNAL_(?:SERVER_)?ERROR|SERVER_ERROR|(?:\w+_)?TIMEOUT|TIMED_OUT|EXPIRED_AUTHENTICATION|UNAUTHORIZED"
            r"|BAD_GATEWAY|TOO_EARLY|MISDIRECTED_REQUEST|(?:\w+_)?UNAVAILABLE|(?:\w+_)?(?:DEADLOCK|OVERLOAD)\w*"
            r"|CONCURRENT_(?:MODIFICATION|UPDATE|WRITE)\w*|(?:\w+_)?(?:TRY_AGAIN|RETRY)(?:_LATER)?|TEMPORAR\w+"
        ),
    ),
)
UNPROCESSED: Final = frozenset({"EXPIRED_AUTHENTICATION", "UNAUTHORIZED"})  # categories of inputs that had no effect
_STATUS_OF_CLASS: Final[Mapping[type[CRMError], int]] = {
    NotAuthorized: 401, NotPermitted: 403, ObjectNotFound: 404, Conflict: 409, ObjectLocked: 423, RateLimited: 429,
    PortalMoving: 477, CRMUnavailable: 503, InvalidRequest: 400,
}  # fmt: skip
_MAX_MESSAGE_CHARS: Final = 10_000
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
_ERROR_IN_MESSAGE: Final = re.compile(r'"error"\s*:\s*"([A-Za-z_]{1,60})"')


def class_of_response(status: int, body: Json, *, is_page: bool = False) -> type[CRMError]:
    """Return the class of a response that is not 2xx; `body` is empty if it is no JSON object, such as a page."""
    is_refusal = 400 <= status < 500  # noqa: PLR2004 - HTTP's own numbers
    is_anybodys = status in _ANYBODYS_STATUSES and not (is_page and status in _RECORD_STATUSES)
    if is_refusal and not is_anybodys and not _is_hubspots_form(body):
        return ProxyRefusal
    return class_of_refusal(status, body)


def class_of_refusal(status: int | None, body: Json) -> type[CRMError]:
    """Return the class of HubSpot's refusal of a call, or of an entry of a batch response (`status` None)."""
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
    if _names_missing_objects(body):
        return ObjectNotFound
    return Conflict if names_existing_record(_message(body)) else InvalidRequest


def _names_missing_objects(body: Json) -> bool:
    """Return whether HubSpot refuses associations because an object does not exist: a 400, as public issues show it."""
    context = body.get("context")
    return isinstance(context, Mapping) and bool(context.get("INVALID_OBJECT_IDS"))


def status_of_entry(body: Json) -> int:
    """Return the status that a single call with the refusal of this entry has."""
    return _entry_status(body) or _STATUS_OF_CLASS[class_of_refusal(None, body)]


def category_of(body: Json) -> str:
    """Return the category of a refusal, else its `errorType`; empty if neither is a name."""
    return identifier(body.get("category")) or identifier(body.get("errorType"))


def identifier(value: object) -> str:
    """Return a value if it is a name such as VALIDATION_ERROR, else the empty text."""
    return value if isinstance(value, str) and _IDENTIFIER.fullmatch(value) else ""


def _is_hubspots_form(body: Json) -> bool:
    """Return whether a body has a field that only HubSpot's errors have, or says that a record exists."""
    if body.get("status") == "error" or any(isinstance(body.get(name), str | Mapping) for name in _FORM_FIELDS):
        return True
    return class_of_refusal(400, body) is Conflict


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
