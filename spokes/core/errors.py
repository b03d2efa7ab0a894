"""Every exception Spokes raises on purpose. Each has a constant reason and data, never a secret or a property value.

SpokesError
├── ConfigurationError          a setting is missing or wrong; start-up stops
├── RejectedRequest             the web process refuses a request (HTTP status and reason)
├── QueueUnavailable            Redis did not confirm; HubSpot must send the events again
├── HttpProblem                 the console refuses a request (HTTP status, reason, explanation)
├── UnknownPortal               an operator named a portal that this deployment has nothing to do with
├── AuditUnavailable            the audit store in SQL does not answer or is not migrated
│   └── AuditReadOnly           it answers and takes no writes
├── IncidentRejected            an incident is unknown or closed, its fields are invalid, or a file is no bundle
├── RecoveryRefused             a gap or backfill is unknown, or not in the state that the command needs
├── MalformedEvent              one element of a request body is not an event; the others are processed
├── UnreadableDelivery          a queued payload is not ours, or of an unknown version
├── SecretUnreadable            a stored secret is not sealed, or sealed with a key we do not have
├── ErasureIncomplete           some data of a person is left; the erasure request stays open
├── AmbiguousReference          what an operator typed does not identify a CRM object
├── SubscriptionRefused         HubSpot refused a call on subscriptions: spokes/subscriptions/refusals.py
├── SubscriptionOutcomeUnknown  HubSpot's answer to such a call was lost
├── RetryLater                  a handler wants its event again later
├── LeaseLost                   another worker may own the object now; this one writes nothing more to it
├── PortalSettingsInvalid       a setting of handlers' own is missing or invalid for a portal: spokes/portal.py
├── PropertyNotDeclared         a handler uses a property of a record that it did not declare
├── ToolsInOtherThread          a handler uses its tools in another thread: spokes/tools.py
├── CRMError                    a HubSpot call failed
│   ├── NotAuthorized           401: neither transient nor permanent; an operator must check the token
│   ├── TransientCRMError       the same call may succeed later
│   │   ├── RateLimited         429
│   │   ├── ObjectLocked        423
│   │   ├── PortalMoving        477
│   │   ├── ObjectMerged        the record was merged into another after it was read
│   │   └── CRMUnavailable      5xx, time-outs, broken connections
│   │       └── ProxyRefusal    a firewall or proxy in front of HubSpot refused the call
│   └── PermanentCRMError       the same call will never succeed
│       ├── InvalidRequest      400 and every other 4xx; also requests we refuse to send
│       ├── NoCredentials       we have no credentials for the portal; nothing was sent
│       ├── NotPermitted        403, or a method the handler did not declare
│       ├── ObjectNotFound      404
│       ├── CreationUnreadable  2xx to a creation, with an unreadable body: spokes/crm/batching
│       └── Conflict            409
├── HttpError                   a call of `tools.http` failed: spokes/http/errors.py
│   ├── HttpNotSent             it is not declared, or incomplete
│   ├── HttpRefusal             every status without a class of its own; the same call will never succeed
│   ├── HttpRateReached         the declared rate of the host allows no call now
│   └── TransientHttpError      the same call may succeed later
│       ├── HttpRateLimited     429
│       └── HttpUnavailable     5xx, 408, 425, a time-out or a broken connection
├── JournalError                a page of HubSpot's journal cannot be read: ingest/journal/errors.py
│   ├── JournalUnavailable      HubSpot cannot answer now
│   │   └── UnreadableLocation  HubSpot's answer does not say where a page is
│   ├── JournalRefused          HubSpot refuses the app
│   └── OffsetUnknown           the journal does not know an offset, or has nothing behind it
└── OAuthError                  HubSpot's OAuth endpoints refuse or fail: spokes/portals/oauth_errors.py
    ├── PortalRevoked           the portal removed the app, or its tokens are revoked
    ├── PortalRefused           HubSpot refuses the refreshes of one portal, without an end of its install
    ├── AppRefused              HubSpot refuses our client id, client secret or kind of request
    ├── InstallRefused          HubSpot refuses one install
    └── OAuthUnavailable        HubSpot cannot answer now
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from spokes.core.deprecation import deprecated_names
from spokes.core.refusals import HTTP_STATUS, Refusal

if not TYPE_CHECKING:  # type checkers know the new name only
    __getattr__ = deprecated_names(__name__, {"UnclearReference": "AmbiguousReference"})

DAILY_POLICY: Final = "DAILY"  # HubSpot's policyName
_PROPERTY_PATH: Final = re.compile(r"(?:[a-z0-9_-]{1,60}\.)?[A-Za-z0-9_]{1,100}")


class SpokesError(Exception):
    """Base of all; `reason` is a constant, safe for logs, metrics and audit records."""

    reason: str = "error"


class ConfigurationError(SpokesError):
    """Settings are missing or wrong; `problems` holds one sentence for each."""

    reason = "configuration"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class RejectedRequest(SpokesError):
    """The web process refuses a request: `reason` is a Refusal, `status` its HTTP status."""

    reason: Refusal

    def __init__(self, reason: Refusal) -> None:
        self.reason = reason
        self.status = HTTP_STATUS.get(reason, 401)
        super().__init__(reason.value)


UNAVAILABLE_REASONS: Final = (
    "queue_unavailable", "queue_full", "queue_full_for_imports", "queue_full_for_portal", "too_many_bodies",
    "dedupe_marks_refused", "disk_too_slow",
)  # fmt: skip


class QueueUnavailable(SpokesError):
    """Redis did not confirm in time, or is full; `retry_after_s` is the Retry-After of the 503."""

    reason = "queue_unavailable"

    def __init__(self, reason: str = "queue_unavailable", *, retry_after_s: int = 5) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class HttpProblem(SpokesError):
    """The console refuses a request: HTTP status, constant reason, and `detail`, a sentence that says what to do.

    `retry_after_s` is for 429 and 503. `detail` never repeats a value of the request.
    """

    def __init__(self, status: int, reason: str, detail: str, *, retry_after_s: int | None = None) -> None:
        self.status, self.reason, self.detail = status, reason, detail
        self.retry_after_s = retry_after_s
        super().__init__(detail)


class UnknownPortal(SpokesError):
    """An operator named a portal that no worker has credentials for and that has no events here."""

    reason = "unknown_portal"


class AuditUnavailable(SpokesError):
    """The SQL store does not answer, or its tables are missing. No record is lost: they wait in the Redis stream."""

    reason = "audit_unavailable"


class AuditReadOnly(AuditUnavailable):
    """The audit store answers and takes no writes: a replica, or a primary that was replaced."""


class IncidentRejected(SpokesError):
    """An incident is unknown or closed, its fields are invalid, or a file is not a bundle; the text says what to do."""

    reason = "incident_rejected"


class RecoveryRefused(SpokesError):
    """A gap or backfill is unknown, or not in the state that the command needs; the text says what to do."""

    reason = "recovery_refused"


class MalformedEvent(SpokesError):
    """One element of a request body is not an event; `reason` names the first invalid field and is audited."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UnreadableDelivery(SpokesError):
    """A queued payload cannot be decoded: not ours, truncated, or of an unknown version."""

    reason = "unreadable_delivery"


class SecretUnreadable(SpokesError):
    """A stored secret is not sealed, was changed, or was sealed with a key that is not in SECRETS_KEY."""

    reason = "secret_unreadable"


class ErasureIncomplete(SpokesError):
    """Some data of the person is left, so the erasure request stays open; `remaining` names where."""

    reason = "not_erased"

    def __init__(self, remaining: str) -> None:
        self.remaining = remaining
        super().__init__(f"Not all data is erased yet ({remaining}). Continue with `spokes privacy erase --resume`.")


class AmbiguousReference(SpokesError):
    """What an operator typed does not identify a CRM object."""

    reason = "unclear_reference"

    def __init__(self) -> None:
        super().__init__("Type the id of a record, such as 318845120771, or paste its link from HubSpot.")


class RetryLater(SpokesError):
    """A handler wants its event again: `raise RetryLater("ERP answered 503", after_s=60)`.

    `explanation` appears, masked, in the event's timeline and dead letter: name the system and its answer, no values.
    The event runs again in `after_s` seconds or later, by default after the schedule. A number alone is the delay.
    """

    reason = "retry_later"

    def __init__(self, explanation: str | float | None = "", after_s: float | None = None) -> None:
        text = explanation if isinstance(explanation, str) else ""
        self.explanation, self.after_s = text, explanation if after_s is None and text is not explanation else after_s
        super().__init__(self.reason)


class LeaseLost(SpokesError):
    """Our lease on an object expired because we could not reach Redis; another worker may own the object now."""

    reason = "lease_lost"


class PropertyNotDeclared(SpokesError, KeyError):
    """A handler uses a property that was not read, so whether it is set is unknown."""

    reason = "handler_error:PropertyNotDeclared"

    def __init__(self, service: str, property_name: str) -> None:
        self.service = service
        self.property_name = property_name
        declaration = f'@uses(reads={{"{service}": (...)}})'
        super().__init__(f"{self.property_path or 'a property'} was not read: add it to {declaration}")

    @property
    def property_path(self) -> str:
        """The property as `contacts.email`; empty if its name is not one that HubSpot has."""
        return _property_path(self.service, self.property_name)

    def fields(self) -> dict[str, object]:
        """Return what the error names, without a value, for logs and audit records."""
        return {"property": self.property_path} if self.property_path else {}


def _property_path(service: str, property_name: str) -> str:
    path = f"{service}.{property_name}" if service else property_name
    return path if property_name and _PROPERTY_PATH.fullmatch(path) else ""


class _ResponseDetails(TypedDict, total=False):
    status: int  # HTTP status; 0 when there was no response
    category: str  # as in HubSpot's response, if any
    code: str  # the reason within the category, such as PROPERTY_DOESNT_EXIST
    property_name: str  # the property that HubSpot refused
    correlation_id: str


class CRMError(SpokesError):
    """A HubSpot call failed. HubSpot's message is left out because it may quote property values."""

    reason = "crm_error"
    status = 0
    call_kind = ""  # of the call that failed, see spokes/crm/transport/call_kinds.py; empty if none was made

    def __init__(self, **details: Unpack[_ResponseDetails]) -> None:
        self.status = details.get("status", self.status)
        self.category = details.get("category", "")
        self.code = details.get("code", "")
        self.property_name = details.get("property_name", "")
        self.correlation_id = details.get("correlation_id", "")
        parts = (self.reason, self.status or "", self.category, self.code, self.property_path)
        super().__init__(" ".join(str(part) for part in parts if part))

    @property
    def property_path(self) -> str:
        """The refused property, as `contacts.phone` if its service is known; empty if HubSpot named none."""
        return _property_path("", self.property_name)

    def fields(self) -> dict[str, object]:
        """Return what HubSpot said, without a value, for logs and audit records; empty fields are left out."""
        fields = {"status": self.status, "category": self.category, "code": self.code, "property": self.property_path}
        return {name: value for name, value in (*fields.items(), ("correlation_id", self.correlation_id)) if value}


class NotAuthorized(CRMError):
    """HubSpot rejects our token. Retrying does not help and giving up would lose events: pause the portal and alert."""

    reason = "not_authorized"


class TransientCRMError(CRMError):
    """The same call may succeed later; `retry_after_s` is HubSpot's Retry-After in seconds, if it sent one."""

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
    """423: the record is locked by a high volume of writes; HubSpot asks for a wait of at least 2 s."""

    reason = "object_locked"


class PortalMoving(TransientCRMError):
    """477: the portal is moving between data centres; Retry-After may be many hours."""

    reason = "portal_moving"


class ObjectMerged(TransientCRMError):
    """The record was merged into another after it was read. Nothing was written; the next run reads the other one."""

    reason = "object_merged"


class CRMUnavailable(TransientCRMError):
    """5xx, a time-out or a broken connection."""

    reason = "crm_unavailable"


class ProxyRefusal(CRMUnavailable):
    """A 4xx without JSON in HubSpot's form: a firewall or proxy in front of HubSpot refused the call."""

    reason = "refused_by_proxy"


class PermanentCRMError(CRMError):
    """The same call will never succeed."""

    reason = "crm_permanent"


class InvalidRequest(PermanentCRMError):
    """400 and every 4xx without its own class; also a request that we refuse to send.

    `service` and `property_name` name the property, such as `contacts` and `phone`, whose value we refuse to send.
    """

    reason = "invalid_request"

    def __init__(self, *, service: str = "", **details: Unpack[_ResponseDetails]) -> None:
        self.service = service
        super().__init__(**details)

    @property
    def property_path(self) -> str:
        """The property as `contacts.phone`; empty if none is known, or its name is not one that HubSpot has."""
        return _property_path(self.service, self.property_name)


class NoCredentials(PermanentCRMError):
    """No call was made: we have no credentials for the portal, and use no other portal's."""

    reason = "no_credentials"


class NotPermitted(PermanentCRMError):
    """403; `scopes` are the missing scopes HubSpot names, or the method that the handler did not declare."""

    reason = "not_permitted"
    status = 403

    def __init__(self, *, scopes: Sequence[str] = (), **details: Unpack[_ResponseDetails]) -> None:
        self.scopes = tuple(scopes)
        super().__init__(**details)

    def fields(self) -> dict[str, object]:
        """Return what HubSpot said, and the missing scopes or the undeclared method."""
        if not self.scopes:
            return super().fields()
        return {**super().fields(), "scopes" if self.status else "undeclared": list(self.scopes)}


class ObjectNotFound(PermanentCRMError):
    """404: the record does not exist or is archived."""

    reason = "object_not_found"


class Conflict(PermanentCRMError):
    """409; `existing_id` is the id of the existing record, if HubSpot names it."""

    reason = "conflict"
    status = 409

    def __init__(self, *, existing_id: str | None = None, **details: Unpack[_ResponseDetails]) -> None:
        self.existing_id = existing_id
        super().__init__(**details)
