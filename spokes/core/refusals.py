"""Reasons for refusing a webhook request, and their HTTP status. The set is closed: a reason is a metric label."""

from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Final


@unique
class Refusal(StrEnum):
    """Constant reasons; one without an entry in HTTP_STATUS means 401."""

    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_MALFORMED = "signature_malformed"
    SIGNATURE_MISMATCH = "signature_mismatch"
    SIGNATURE_VERSION_UNKNOWN = "signature_version_unknown"
    SIGNATURE_VERSION_NOT_ALLOWED = "signature_version_not_allowed"
    TIMESTAMP_MISSING = "timestamp_missing"
    TIMESTAMP_MALFORMED = "timestamp_malformed"
    TIMESTAMP_STALE = "timestamp_stale"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    REQUEST_UNREADABLE = "request_unreadable"
    SECRET_MISSING = "secret_missing"  # noqa: S105 - the name of a reason, not a secret
    BODY_NOT_JSON = "body_not_json"
    BODY_NOT_A_BATCH = "body_not_a_batch"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TOO_SLOW = "body_too_slow"
    CONTENT_TYPE = "content_type"
    NOT_HTTPS = "not_https"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    TOO_MANY_FAILURES = "too_many_failures"


HTTP_STATUS: Final[Mapping[Refusal, int]] = {
    Refusal.REQUEST_UNREADABLE: 400,
    Refusal.BODY_NOT_JSON: 400,
    Refusal.BODY_NOT_A_BATCH: 400,
    Refusal.BODY_TOO_LARGE: 413,
    Refusal.BODY_TOO_SLOW: 408,
    Refusal.CONTENT_TYPE: 415,
    Refusal.NOT_HTTPS: 403,
    Refusal.ADDRESS_NOT_ALLOWED: 403,
    Refusal.TOO_MANY_FAILURES: 429,
}
