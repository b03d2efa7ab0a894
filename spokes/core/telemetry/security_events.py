"""Security events such as logins and refusals: a closed set, one log line and one count each.

The line has `security: true`, so that a SIEM can select it. It names actor and address, never a property value.
Refusals, which strangers cause at will, are limited to a number of lines a minute; the metric counts all. Operators'
actions are audited too; a problem that needs action is an alert (telemetry/alerts.py).
"""

import logging
from enum import StrEnum, unique
from typing import Any, Final

import structlog

from spokes.core.telemetry.log_limit import LogLimit
from spokes.core.telemetry.metrics import SECURITY_EVENTS


@unique
class SecurityEvent(StrEnum):
    """The names of all security events."""

    # Web process
    REQUESTS_REFUSED = "requests_refused"  # summed over ten seconds, so that forged requests cannot flood the log
    # Console
    LOGIN_SUCCEEDED = "login_succeeded"
    LOGIN_FAILED = "login_failed"
    LOGIN_THROTTLED = "login_throttled"
    LOGGED_OUT = "logged_out"
    SESSION_REVOKED = "session_revoked"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - of the API: forged, expired, or with an algorithm we do not accept
    ACCESS_DENIED = "access_denied"  # the role lacks the permission
    CROSS_SITE_REFUSED = "cross_site_refused"
    RATE_LIMITED = "rate_limited"
    VALUE_REVEALED = "value_revealed"
    USER_CHANGED = "user_changed"
    LINK_MADE = "link_made"
    TOKEN_MADE = "token_made"  # noqa: S105 - for the API
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - of the API


_INFO_EVENTS: Final = frozenset({SecurityEvent.LOGIN_SUCCEEDED, SecurityEvent.LOGGED_OUT})

# What a stranger can cause at will; the metric counts those beyond the limit too.
_REFUSAL_EVENTS: Final = frozenset({
    SecurityEvent.LOGIN_FAILED, SecurityEvent.LOGIN_THROTTLED, SecurityEvent.TOKEN_REFUSED, SecurityEvent.ACCESS_DENIED,
    SecurityEvent.CROSS_SITE_REFUSED, SecurityEvent.RATE_LIMITED,
})  # fmt: skip
_MAX_REFUSALS_LOGGED: Final = 100  # of each event, a minute
_LIMITS: Final[dict[SecurityEvent, LogLimit]] = {}


def log_security_event(event: SecurityEvent, **fields: Any) -> None:
    """Log a security event and count it.

    Args:
        fields: actor, address, role, reason, counts; never a property value, token or password.
    """
    SECURITY_EVENTS.labels(event.value).inc()
    if event in _REFUSAL_EVENTS and _LIMITS.setdefault(event, LogLimit(_MAX_REFUSALS_LOGGED)).is_exceeded():
        return
    level = logging.INFO if event in _INFO_EVENTS else logging.WARNING
    structlog.get_logger().log(level, event.value, security=True, **fields)
