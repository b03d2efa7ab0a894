"""What a call of `tools.http` may raise. Texts and fields name host, method and status, never a path, body or header.

HttpError
├── HttpNotSent             the call is not declared, or incomplete: nothing was sent
├── HttpRefusal             every status without a class of its own; the same call will never succeed
├── HttpRateReached         the declared rate of the host allows no call now: the event waits without an attempt
└── TransientHttpError      the same call may succeed later
    ├── HttpRateLimited     429
    └── HttpUnavailable     5xx, 408, 425, a time-out or a broken connection
"""

from typing import Final

from spokes.core.errors import SpokesError

_RATE_LIMITED: Final = 429
_TRANSIENT_STATUSES: Final = frozenset({408, 421, 423, 425})


class HttpError(SpokesError):
    """A call of `tools.http` failed: `host` as it is declared, `method`, and `status`, 0 without an answer."""

    reason = "http_error"

    def __init__(self, host: str, method: str, *, status: int = 0, code: str = "") -> None:
        self.host = host
        self.method = method
        self.status = status
        self.code = code
        super().__init__(" ".join(str(part) for part in (self.reason, method, host, status, code) if part))

    def fields(self) -> dict[str, object]:
        """Return what is recorded of the call, for logs and audit records."""
        fields = {"host": self.host, "method": self.method, "status": self.status, "code": self.code}
        return {name: value for name, value in fields.items() if value}


class HttpNotSent(HttpError):
    """Nothing was sent; `explanation` says what to write. `is_undeclared`: `@uses` does not declare the host."""

    reason = "http_not_sent"

    def __init__(self, host: str, method: str, explanation: str, *, is_undeclared: bool = False) -> None:
        super().__init__(host, method)
        self.explanation = explanation
        self.is_undeclared = is_undeclared
        self.args = (explanation,)

    def fields(self) -> dict[str, object]:
        """Return the undeclared host, or the sentence."""
        more: dict[str, object] = (
            {"undeclared": [self.host]} if self.is_undeclared else {"explanation": self.explanation}
        )
        return {**super().fields(), **more}


class HttpRefusal(HttpError):
    """Every status without a class of its own, such as 400, 401, 404 and 409; the same call will never succeed.

    `code` says what else was wrong: `certificate`, `redirect`, `response_too_large`.
    """

    reason = "http_refusal"


class HttpRateReached(HttpError):
    """The host's declared rate allows no call for the next `retry_after_s` seconds; nothing was sent."""

    reason = "http_rate_reached"

    def __init__(self, host: str, method: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(host, method)


class TransientHttpError(HttpError):
    """The same call may succeed later; `retry_after_s` is the host's Retry-After in seconds, if it sent one."""

    reason = "http_transient"

    def __init__(
        self, host: str, method: str, *, status: int = 0, code: str = "", retry_after_s: float | None = None
    ) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(host, method, status=status, code=code)

    @property
    def call_kind(self) -> str:
        """The kind of call that is paused if such calls keep failing: the host."""
        return self.host


class HttpRateLimited(TransientHttpError):
    """429."""

    reason = "http_rate_limited"


class HttpUnavailable(TransientHttpError):
    """5xx, 408, 421, 423, 425, a time-out or a broken connection."""

    reason = "http_unavailable"


def error_for_status(host: str, method: str, status: int, retry_after_s: float | None = None) -> HttpError | None:
    """Return the error that an answer means for the event, None if the call succeeded."""
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        return None
    if status == _RATE_LIMITED:
        return HttpRateLimited(host, method, status=status, retry_after_s=retry_after_s)
    if status >= 500 or status < 200 or status in _TRANSIENT_STATUSES:  # noqa: PLR2004 - as above; 1xx ends nothing
        return HttpUnavailable(host, method, status=status, retry_after_s=retry_after_s)
    return HttpRefusal(host, method, status=status)
