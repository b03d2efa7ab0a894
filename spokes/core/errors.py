"""Every exception Spokes raises on purpose. Rule: each carries data and a constant reason, never a secret or a value.

SpokesError
├── ConfigurationError          a setting is missing or wrong; start-up stops
├── RejectedRequest             the door refuses a request (HTTP status and reason)
├── QueueUnavailable            Redis did not confirm; the sender must keep the events
├── Problem                     the console does not do what a request asks (HTTP status, reason, a sentence)
├── AuditUnavailable            the SQL store of the audit does not answer or is not migrated
├── MalformedEvent              one element of a batch is not an event; the others go on
├── UnreadableDelivery          a queued payload is not one of ours, or of a version we do not know
├── SecretUnreadable            a secret that we keep is not sealed, or by a key that we lack
├── NotErased                   something of a person is still there; the request to erase stays open
├── UnclearReference            what an operator typed names no CRM object
├── RetryLater                  a handler asks for its event again later
├── LeaseLost                   another worker may have the object by now; nothing more is written to it
└── CRMError                    HubSpot did not do what we asked
    ├── NotAuthorized           401: neither transient nor permanent, somebody must look at the token
    ├── TransientCRMError       the same call may work later
    │   ├── RateLimited         429
    │   ├── ObjectLocked        423
    │   ├── PortalMoving        477
    │   ├── ObjectMerged        the record lives on as another since it was read
    │   └── CRMUnavailable      5xx, time-outs, broken connections
    └── PermanentCRMError       the same call will never work
        ├── InvalidRequest      400 and every other 4xx; also what we refuse before sending
        ├── NotPermitted        403, or a method the handler did not declare
        ├── ObjectNotFound      404
        └── Conflict            409
"""

from collections.abc import Sequence
from typing import Final, TypedDict, Unpack

from spokes.core.refusals import HTTP_STATUS, Refusal

DAILY_POLICY: Final = "DAILY"  # HubSpot's policyName


class SpokesError(Exception):
    """Base of all; `reason` is a constant fit for logs, metrics and audit."""

    reason: str = "error"


class ConfigurationError(SpokesError):
    """Settings are missing or wrong; `problems` holds one plain sentence for each."""

    reason = "configuration"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class RejectedRequest(SpokesError):
    """The door refuses a request: `reason` is a Refusal, `status` the HTTP status that goes with it."""

    reason: Refusal

    def __init__(self, reason: Refusal) -> None:
        self.reason = reason
        self.status = HTTP_STATUS.get(reason, 401)
        super().__init__(reason.value)


class QueueUnavailable(SpokesError):
    """Redis did not confirm in time, or is full; `retry_after_s` goes into the 503."""

    reason = "queue_unavailable"

    def __init__(self, reason: str = "queue_unavailable", *, retry_after_s: int = 5) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class HttpProblem(SpokesError):
    """The console does not do what a request asks: HTTP status, constant reason, and a sentence that says what to do.

    `retry_after_s` is for 429 and 503; the sentence never repeats a value of the request.
    """

    def __init__(self, status: int, reason: str, detail: str, *, retry_after_s: int | None = None) -> None:
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class AuditUnavailable(SpokesError):
    """The SQL store does not answer, or its tables are not there; nothing is lost, the stream keeps the records."""

    reason = "audit_unavailable"


class MalformedEvent(SpokesError):
    """One element of a batch is not an event; `reason` names the first fault and goes into the audit."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UnreadableDelivery(SpokesError):
    """A queued payload cannot be read: not ours, cut short, or of an unknown version."""

    reason = "unreadable_delivery"


class SecretUnreadable(SpokesError):
    """A secret that is kept is not sealed, was changed, or was sealed by a key that is not in SECRETS_KEY."""

    reason = "secret_unreadable"


class ErasureIncomplete(SpokesError):
    """Something of the person is still there; the request stays open. `left` names where."""

    reason = "not_erased"

    def __init__(self, remaining: str) -> None:
        self.remaining = remaining
        super().__init__(f"Not all is erased yet ({remaining}); `python -m spokes privacy erase --resume` goes on.")


class AmbiguousReference(SpokesError):
    """What an operator typed names no CRM object."""

    reason = "unclear_reference"

    def __init__(self) -> None:
        super().__init__("Type the id of a record, such as 318845120771, or paste its link from HubSpot.")


class RetryLater(SpokesError):
    """A handler wants its event again; `after_s` seconds is the least wait, None leaves it to backoff."""

    reason = "retry_later"

    def __init__(self, after_s: float | None = None) -> None:
        self.after_s = after_s
        super().__init__(self.reason)


class LeaseLost(SpokesError):
    """This process was out of touch for longer than its lease on an object, and another may be working on it."""

    reason = "lease_lost"


class _ResponseDetails(TypedDict, total=False):
    status: int  # HTTP's; 0 when there was no answer
    category: str  # HubSpot's own words, where it gave any
    correlation_id: str


class CRMError(SpokesError):
    """HubSpot did not do what we asked. Its message is left out: it may quote property values."""

    reason = "crm_error"
    status = 0

    def __init__(self, **details: Unpack[_ResponseDetails]) -> None:
        self.status = details.get("status", self.status)
        self.category = details.get("category", "")
        self.correlation_id = details.get("correlation_id", "")
        super().__init__(" ".join(str(part) for part in (self.reason, self.status or "", self.category) if part))


class NotAuthorized(CRMError):
    """HubSpot does not accept our token. Retrying does not help and giving up would lose work: pause and alert."""

    reason = "not_authorized"


class TransientCRMError(CRMError):
    """The same call may work later; `retry_after_s` is HubSpot's own wait in seconds, None when it named none."""

    reason = "crm_transient"

    def __init__(self, *, retry_after_s: float | None = None, **details: Unpack[_ResponseDetails]) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(**details)


class RateLimited(TransientCRMError):
    """429; `policy` is HubSpot's policyName: TEN_SECONDLY_ROLLING, SECONDLY or DAILY."""

    reason = "rate_limited"
    status = 429

    def __init__(
        self, *, policy: str = "", retry_after_s: float | None = None, **details: Unpack[_ResponseDetails]
    ) -> None:
        self.policy = policy
        super().__init__(retry_after_s=retry_after_s, **details)


class ObjectLocked(TransientCRMError):
    """423: the record is locked by volume; HubSpot asks for at least 2 s."""

    reason = "object_locked"


class PortalMoving(TransientCRMError):
    """477: the portal is moving between data centres; Retry-After may be many hours."""

    reason = "portal_moving"


class ObjectMerged(TransientCRMError):
    """The record was merged into another since it was read; nothing was written, the next run reads that one."""

    reason = "object_merged"


class CRMUnavailable(TransientCRMError):
    """5xx, a time-out or a broken connection."""

    reason = "crm_unavailable"


class PermanentCRMError(CRMError):
    """The same call will never work."""

    reason = "crm_permanent"


class InvalidRequest(PermanentCRMError):
    """400 and every 4xx without a class of its own; also what we refuse to send."""

    reason = "invalid_request"


class NotPermitted(PermanentCRMError):
    """403; `scopes` are those HubSpot says are missing, or the method that the handler did not declare."""

    reason = "not_permitted"
    status = 403

    def __init__(self, *, scopes: Sequence[str] = (), **details: Unpack[_ResponseDetails]) -> None:
        self.scopes = tuple(scopes)
        super().__init__(**details)


class ObjectNotFound(PermanentCRMError):
    """404: no such record, or archived."""

    reason = "object_not_found"


class Conflict(PermanentCRMError):
    """409; `existing_id` is the record that is already there, where HubSpot names it."""

    reason = "conflict"
    status = 409

    def __init__(self, *, existing_id: str | None = None, **details: Unpack[_ResponseDetails]) -> None:
        self.existing_id = existing_id
        super().__init__(**details)
