"""What programs send: queries and bodies, as types. Rule: bounded, closed, and every act says why."""

from dataclasses import dataclass, fields
from typing import Annotated, Final, TypeAlias

import typer
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, with_config

from spokes.audit.records import Action, Outcome
from spokes.audit.sql.queries import Filters
from spokes.console.export import Format
from spokes.console.record_filters import moment
from spokes.privacy.requests import Law

_CLOSED: Final = ConfigDict(extra="forbid")
_END_OF_TIME: Final = 253_402_300_800_000  # epoch ms of the year 10000


def _moment(told: object) -> int:
    try:
        at = max(0, moment(str(told)))  # before 1970 is since ever
    except typer.BadParameter:
        at = -1
    if not 0 <= at < _END_OF_TIME:
        raise ValueError("is no time; try 2026-11-23, 2026-11-23T14:00, 2h or 7d")
    return at


def _whole(told: object) -> object:
    """To JSON Schema 7.0 is an integer."""
    return int(told) if isinstance(told, float) and told.is_integer() else told


Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Reference: TypeAlias = Annotated[
    Text,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 200,
            "pattern": r"^([A-Za-z0-9_-]{1,100} )?[0-9]{1,20}$"
            r"|^https://app\.hubspot\.com/contacts/[0-9]{1,18}/record/[0-9]-[0-9]/[0-9]{1,20}$",
        }
    ),
]
Reason: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Contact: TypeAlias = Annotated[str, StringConstraints(pattern=r"^(\d{1,18}|[^\s@]{1,100}@[^\s@]{1,100})$")]
Number: TypeAlias = Annotated[int, Field(ge=0, lt=10**18), BeforeValidator(_whole)]
Moment: TypeAlias = Annotated[
    int,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "type": "string",
            "description": "2026-11-23, 2026-11-23T14:00:00Z, epoch ms, or an age: 30m, 2h, 7d, 4w",
            "anyOf": [{"format": "date"}, {"format": "date-time"}, {"pattern": "^([0-9]{1,4}[mhdw]|[0-9]{9,14})$"}],
        }
    ),
]
Limit: TypeAlias = Annotated[int, Field(ge=1, le=500)]
Cursor: TypeAlias = Annotated[str, StringConstraints(pattern=r"^\d{1,18}\.\d{1,18}$")]


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class Paged:
    """Which part of many: `after` is the `next` of the page before."""

    limit: Limit = 50
    after: Cursor | None = None


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class _Span:
    """Between which times; `until` itself is out."""

    since: Moment | None = None
    until: Moment | None = None


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class _Events(_Span):
    """Which events."""

    outcome: Outcome | None = None
    portal_id: Number | None = None
    object_type: Text | None = None
    object_id: Text | None = None
    event_id: Number | None = None
    delivery_id: Text | None = None
    handler: Text | None = None

    def filters(self, action: Action | None = None) -> Filters:
        """Return what the store is asked."""
        asked = {name.name: getattr(self, name.name, None) for name in fields(Filters)}
        if action is not None:
            asked["action"] = action
        return Filters(**asked)


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class _Audit(_Events):
    """Which records of the audit."""

    action: Action | None = None
    event_key: Text | None = None
    actor: Text | None = None
    correlation_id: Text | None = None


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class OfDeliveries(Paged, _Span):
    """Which deliveries, and which part of them."""


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class OfEvents(Paged, _Events):
    """Which events, and which part of them."""


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class OfAudit(Paged, _Audit):
    """Which records of the audit, and which part of them."""


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class OfExport(_Audit):
    """Which records of the audit are carried away, and how they are written."""

    format: Format = Format.JSONL


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class OfObject:
    """Which CRM object: an id, `contact 51`, or a link copied from HubSpot; `after` is a page's `next`."""

    object: Reference
    limit: Limit = 200
    after: Cursor | None = None


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class OfLetters:
    """Which dead letters; what is not said asks nothing."""

    portal_id: Number | None = None
    cause: Text | None = None
    handler: Annotated[str, StringConstraints(max_length=200)] | None = None
    limit: Limit = 50
    after: Annotated[str, StringConstraints(max_length=300)] | None = None


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class Because:
    """Why something is done; it stands in the audit."""

    reason: Reason


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class Settling(Because):
    """Many dead letters by what they are; without any filter, `all` must be true."""

    portal_id: Number | None = None
    cause: Text | None = None
    handler: Annotated[str, StringConstraints(max_length=200)] | None = None
    keys: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    all: bool = False


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class OfPerson(Because):
    """Which person: the contact's id or its e-mail address, in the portal that our access token belongs to."""

    portal_id: Number
    contact: Contact


@with_config(_CLOSED)
@dataclass(frozen=True, kw_only=True)
class Erasing(OfPerson):
    """Whom to erase, and under which law they ask; it sets the due date."""

    law: Law = Law.GDPR
