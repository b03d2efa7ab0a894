"""Types of queries and bodies: bounded texts and numbers, no unknown fields, a reason for every action."""

from dataclasses import dataclass, field, fields
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, StringConstraints, WithJsonSchema, with_config

from spokes.audit.records import Action, Outcome
from spokes.audit.sql.queries import Filters
from spokes.console.export import ExportFormat
from spokes.console.time_input import parse_time
from spokes.privacy.requests import Law

_NO_EXTRA_FIELDS: Final = ConfigDict(extra="forbid")
# A selection without a filter is refused, unless it says `all`.
_SELECTORS: Final[JsonValue] = [
    {"required": ["all"], "properties": {"all": {"const": True}}},
    {"required": ["keys"], "properties": {"keys": {"minItems": 1}}},
    {"required": ["portal_id"], "properties": {"portal_id": {"type": "integer"}}},
    {"required": ["cause"], "properties": {"cause": {"type": "string"}}},
]
_YEAR_10000_MS: Final = 253_402_300_800_000  # the first year that ISO 8601 cannot express in four digits


def _parse_time(value: object) -> int:
    try:
        at = max(0, parse_time(str(value)))  # no record is older than 1970
    except ValueError:
        at = -1
    if not 0 <= at < _YEAR_10000_MS:
        raise ValueError("is not a time; try 2026-11-23, 2026-11-23T14:00, 2h or 7d")
    return at


def _integral(value: object) -> object:
    """Return a float without a fraction as int, because JSON Schema counts 7.0 as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


BoundedText: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200)]
ReferenceText: TypeAlias = Annotated[
    BoundedText,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 200,
            "pattern": r"^([A-Za-z0-9_-]{1,100} )?[0-9]{1,20}$"
            r"|^https://app\.hubspot\.com/contacts/[0-9]{1,18}/record/[0-9]-[0-9]/[0-9]{1,20}$",
        }
    ),
]
SettingText: TypeAlias = Annotated[str, StringConstraints(max_length=200)]
SettingList: TypeAlias = Annotated[tuple[BoundedText, ...], Field(max_length=200)]
FingerprintText: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
ReasonText: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
ContactText: TypeAlias = Annotated[str, StringConstraints(pattern=r"^(\d{1,18}|[^\s@]{1,100}@[^\s@]{1,100})$")]
NonNegativeInt: TypeAlias = Annotated[int, Field(ge=0, lt=10**18), BeforeValidator(_integral)]
TimestampMs: TypeAlias = Annotated[
    int,
    BeforeValidator(_parse_time),
    WithJsonSchema(
        {
            "type": "string",
            "description": "2026-11-23, 2026-11-23T14:00:00Z, epoch ms, or an age: 30m, 2h, 7d, 4w",
            "anyOf": [{"format": "date"}, {"format": "date-time"}, {"pattern": "^([0-9]{1,4}[mhdw]|[0-9]{9,14})$"}],
        }
    ),
]
PageLimit: TypeAlias = Annotated[int, Field(ge=1, le=500)]
Cursor: TypeAlias = Annotated[str, StringConstraints(pattern=r"^\d{1,18}\.\d{1,18}$")]


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class PageQuery:
    """Paging: `after` is the `next` of the page before."""

    limit: PageLimit = 50
    after: Cursor | None = None


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class _TimeRange:
    """A time range; `until` is exclusive."""

    since: TimestampMs | None = None
    until: TimestampMs | None = None


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class _EventFilters(_TimeRange):
    """Filters for events."""

    outcome: Outcome | None = None
    portal_id: NonNegativeInt | None = None
    object_type: BoundedText | None = None
    object_id: BoundedText | None = None
    event_id: NonNegativeInt | None = None
    delivery_id: BoundedText | None = None
    handler: BoundedText | None = None

    def filters(self, action: Action | None = None) -> Filters:
        """Return the filters for the audit store."""
        values = {each.name: getattr(self, each.name, None) for each in fields(Filters)}
        if action is not None:
            values["action"] = action
        return Filters(**values)


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class _AuditFilters(_EventFilters):
    """Filters for audit records."""

    action: Action | None = None
    reason: BoundedText | None = None
    event_key: BoundedText | None = None
    actor: BoundedText | None = None
    correlation_id: BoundedText | None = None
    token: FingerprintText | None = None


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class DeliveryQuery(PageQuery, _TimeRange):
    """Query of `GET /deliveries`."""


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class EventQuery(PageQuery, _EventFilters):
    """Query of `GET /events`."""


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class AuditQuery(PageQuery, _AuditFilters):
    """Query of `GET /audit`."""


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class ExportQuery(_AuditFilters):
    """Query of `GET /audit/export`."""

    format: ExportFormat = ExportFormat.JSONL


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class TimelineQuery:
    """Query of `GET /timeline`: `object` is an id, `contact 51`, or a link copied from HubSpot."""

    object: ReferenceText
    limit: PageLimit = 200
    after: Cursor | None = None


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class DeadLetterQuery:
    """Query of `GET /dead-letters`; an absent filter matches all."""

    portal_id: NonNegativeInt | None = None
    cause: BoundedText | None = None
    handler: Annotated[str, StringConstraints(max_length=200)] | None = None
    limit: PageLimit = 50
    after: Annotated[str, StringConstraints(max_length=300)] | None = None


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class PortalQuery:
    """Query of `GET /portals`; `after` is the `next` of the page before, and `state` may be `missing_scopes`.

    `q` is a part of the id or the name. Pass the same filter and order for each page.
    """

    state: Literal["installed", "needs_reinstall", "paused", "uninstalled", "missing_scopes"] | None = None
    q: Annotated[str, StringConstraints(max_length=100)] = ""
    sort: Literal["portal", "name", "installed", "last_event", "backlog", "lag", "dead_letters", "token"] = "portal"
    limit: PageLimit = 50
    after: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")] | None = None


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class GapQuery:
    """Query of `GET /gaps`; `closed` is `true` for closed gaps too."""

    closed: Literal["true", "false"] = "false"
    limit: PageLimit = 200


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class ReasonBody:
    """Body of an action: the reason is recorded in the audit."""

    reason: ReasonText


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class PortalSettingsBody(ReasonBody):
    """Body of `POST /portals/{portal}/settings`: only what it names is changed.

    An empty text or list ends a setting. `own` has settings of handlers' own by name.
    """

    name: SettingText | None = None
    handlers: SettingList | None = None
    events: SettingList | None = None
    region: SettingText | None = None
    time_zone: SettingText | None = None
    currency: SettingText | None = None
    own: Annotated[dict[BoundedText, Annotated[str, StringConstraints(max_length=10_000)]], Field(max_length=100)] = (
        field(default_factory=dict)
    )


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class DeadLetterSelection(ReasonBody):
    """Body of bulk actions on dead letters; without any filter, `all` must be true."""

    portal_id: NonNegativeInt | None = None
    cause: BoundedText | None = None
    handler: Annotated[str, StringConstraints(max_length=200)] | None = None
    keys: Annotated[tuple[BoundedText, ...], Field(max_length=1000)] = ()
    all: bool = False


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class QuarantineQuery:
    """Query of `GET /quarantine`; an absent filter matches all. Portal 0 has the contents without a readable portal."""

    portal_id: NonNegativeInt | None = None
    cause: BoundedText | None = None
    limit: PageLimit = 50
    after: Annotated[str, StringConstraints(max_length=300)] | None = None


@with_config(ConfigDict(extra="forbid", json_schema_extra={"anyOf": _SELECTORS}))
@dataclass(frozen=True, kw_only=True)
class QuarantineSelection(ReasonBody):
    """Body of bulk actions on quarantined contents; without any filter, `all` must be true."""

    portal_id: NonNegativeInt | None = None
    cause: BoundedText | None = None
    keys: Annotated[tuple[BoundedText, ...], Field(max_length=1000)] = ()
    all: bool = False


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class PersonBody(ReasonBody):
    """A person: the contact's id or e-mail address, in the portal of our access token."""

    portal_id: NonNegativeInt
    contact: ContactText


@with_config(_NO_EXTRA_FIELDS)
@dataclass(frozen=True, kw_only=True)
class ErasureBody(PersonBody):
    """Body of an erasure request; the law sets the due date."""

    law: Law = Law.GDPR
