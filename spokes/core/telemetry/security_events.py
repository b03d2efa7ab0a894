"""Security events: who came in, who was kept out, what was shown and changed. Rule: a closed set, each one log line.

Such a line bears `security: true` beside its name, so that a SIEM can pick it out; actor and address stand in it,
values never do. What operators do is in the audit too; what needs action at once is an alert (telemetry/alerts.py).
"""

import logging
from enum import StrEnum, unique
from typing import Any, Final

import structlog

from spokes.core.telemetry.metrics import SECURITY_EVENTS


@unique
class SecurityEvent(StrEnum):
    """Everything that is told in this way."""

    # The door
    REQUESTS_REFUSED = "requests_refused"  # added up, every ten seconds: a forger fills no log
    # The console
    LOGIN_SUCCEEDED = "login_succeeded"
    LOGIN_FAILED = "login_failed"
    LOGIN_THROTTLED = "login_throttled"
    LOGGED_OUT = "logged_out"
    SESSION_REVOKED = "session_revoked"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - of the API: forged, expired, or of an algorithm we do not take
    ACCESS_DENIED = "access_denied"  # a role that may not
    CROSS_SITE_REFUSED = "cross_site_refused"
    RATE_LIMITED = "rate_limited"
    VALUE_REVEALED = "value_revealed"
    USER_CHANGED = "user_changed"
    LINK_MADE = "link_made"
    TOKEN_MADE = "token_made"  # noqa: S105 - for the API
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - of the API


_INFO_EVENTS: Final = frozenset({SecurityEvent.LOGIN_SUCCEEDED, SecurityEvent.LOGGED_OUT})


def log_security_event(event: SecurityEvent, **fields: Any) -> None:
    """Write the line of a security event, and count it.

    Args:
        fields: actor, address, role, reason, counts; never a value, a token or a password.
    """
    level = logging.INFO if event in _INFO_EVENTS else logging.WARNING
    structlog.get_logger().log(level, event.value, security=True, **fields)
    SECURITY_EVENTS.labels(event.value).inc()
