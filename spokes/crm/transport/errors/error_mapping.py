"""HubSpot's error responses as our exceptions.

HubSpot's message is dropped: it may quote property values. Every other field is kept only if it looks as it should; all
are optional, and some responses are HTML.
Source: HubSpot's docs, "Error handling" and "API usage guidelines and limits".
"""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypedDict

import orjson

from spokes.core.errors import Conflict, CRMError, NotPermitted, RateLimited, TransientCRMError
from spokes.crm.transport.errors.error_classes import (
    category_of,
    class_of_refusal,
    class_of_response,
    identifier,
    status_of_entry,
)
from spokes.crm.transport.errors.existing_record import existing_id_of
from spokes.crm.transport.errors.refusal_details import refusal_code, refused_property
from spokes.crm.transport.response_json import Json

_TRACE: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_SCOPE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_POLICY: Final = re.compile(r"reached your (\w{1,40}) limit", re.IGNORECASE)
_SECONDS: Final = re.compile(r"\d{1,7}(\.\d{1,9})?", re.ASCII)  # of Retry-After; more are no wait
_MAX_WAIT_S: Final = 24 * 3600.0  # a portal that moves takes up to a day


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime, own_ids: Collection[str] = ()
) -> CRMError:
    """Return the error for a response that is not 2xx.

    Args:
        headers: names in lower case.
        now: with a time zone; an HTTP date in Retry-After is measured against it.
        own_ids: ids of the objects that the call was about.
    """
    is_page = body.lstrip().startswith(b"<")
    return _build_error(status, _parse_body(body), headers, now, own_ids, is_page=is_page)


def error_from_entry(entry: Json, own_ids: Collection[str] = ()) -> CRMError:
    """Return the error for one element of `errors` in a batch response; `own_ids` are the inputs' ids."""
    return _build_error(None, entry, {}, datetime.now(UTC), own_ids)


def ids_in_entry(entry: Json) -> list[str]:
    """Return the ids of the inputs that one element of `errors` names."""
    details = [detail.get("context") for detail in _mappings(entry.get("errors"))]
    ids = _texts(entry.get("objectWriteTraceId"))
    for context in _mappings([entry.get("context"), entry.get("errorTokens"), *details]):
        for name in ("ids", "id", "fromObjectId", "objectId", "objectWriteTraceId"):
            ids += _texts(context.get(name))
    return ids


def correlation_id_of(headers: Mapping[str, str], body: Json) -> str:
    """Return HubSpot's id of the call, which its support asks for; empty if there is none."""
    for text in (body.get("correlationId"), headers.get("x-hubspot-correlation-id")):
        if isinstance(text, str) and _TRACE.fullmatch(text):
            return text
    return ""


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds that Retry-After names, as a number or HTTP date; None if it is missing or malformed.

    A malformed wait must not become the longest one: it would pause a portal for a day.
    """
    if not text:
        return None
    if _SECONDS.fullmatch(text.strip()):
        seconds = float(text)
    else:
        try:
            due = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        seconds = (due.replace(tzinfo=due.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), _MAX_WAIT_S)


class _ErrorDetails(TypedDict):
    """What every error carries."""

    status: int
    category: str
    code: str
    property_name: str
    correlation_id: str


def _build_error(
    status: int | None, body: Json, headers: Mapping[str, str], now: datetime, own_ids: Collection[str], *,
    is_page: bool = False,
) -> CRMError:  # fmt: skip
    details = _ErrorDetails(
        status=status_of_entry(body) if status is None else status,
        category=category_of(body),
        code=refusal_code(body),
        property_name=refused_property(body),
        correlation_id=correlation_id_of(headers, body),
    )
    error_class = class_of_refusal(None, body) if status is None else class_of_response(status, body, is_page=is_page)
    if issubclass(error_class, NotPermitted):
        return error_class(**details, scopes=_missing_scopes(body))
    if issubclass(error_class, Conflict):
        return error_class(**details, existing_id=existing_id_of(body, own_ids))
    wait_s = parse_retry_after(headers.get("retry-after"), now)
    if issubclass(error_class, RateLimited):
        return error_class(**details, retry_after_s=wait_s, policy=_limit_policy(body))
    if issubclass(error_class, TransientCRMError):
        return error_class(**details, retry_after_s=wait_s)
    return error_class(**details)


def _parse_body(body: bytes) -> Json:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}


def _limit_policy(body: Json) -> str:
    if policy := identifier(body.get("policyName")):
        return policy.upper()
    match = _POLICY.search(str(body.get("message", "")))
    return match[1].upper() if match else ""


def _missing_scopes(body: Json) -> list[str]:
    """Return the scopes that the token lacks: named in each error's context, or in the body's own."""
    contexts = [body.get("context"), *(error.get("context") for error in _mappings(body.get("errors")))]
    scopes: list[str] = []
    for context in _mappings(contexts):
        for name in ("requiredGranularScopes", "requiredScopes"):
            scopes += [text for text in _texts(context.get(name)) if _SCOPE.fullmatch(text)]
    return list(dict.fromkeys(scopes))


def _mappings(values: object) -> Iterable[Json]:
    return (value for value in values if isinstance(value, Mapping)) if isinstance(values, list) else ()


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(v) for v in values if isinstance(v, str | int)]
