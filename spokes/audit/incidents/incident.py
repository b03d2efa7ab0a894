"""An incident, its notes and its clock: 72 hours from awareness to the notification of the authority.

Source: GDPR article 33 (1). Text is masked as the archiver masks reasons, before it is stored.
"""

import re
import secrets
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum, unique
from typing import Final, Self

from spokes.audit.rows import Row
from spokes.audit.sql.queries import Filters
from spokes.core.clock import now_ms
from spokes.core.errors import IncidentRejected
from spokes.core.masking import Mask

NOTIFICATION_MS: Final = 72 * 3_600_000
_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000
_MINUTES_PER_HOUR: Final = 60
MAX_TITLE: Final = 200  # characters
MAX_NOTE: Final = 10_000


@unique
class IncidentState(StrEnum):
    """Whether the incident is still worked on."""

    OPEN = "open"
    CLOSED = "closed"


@unique
class ClockState(StrEnum):
    """The state of the 72 hours."""

    RUNNING = "running"
    OVERDUE = "overdue"
    NOTIFIED = "notified"  # in time
    NOTIFIED_LATE = "notified_late"
    ENDED = "ended"  # the incident was closed without a notification


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note; `text` is masked, `at` is epoch ms."""

    incident_id: str
    author: str
    text: str
    at: int = field(default_factory=now_ms)
    id: str = ""

    def with_id(self) -> Self:
        """Return a copy with a new id; ids sort by time."""
        return replace(self, id=f"{self.at:013d}-{secrets.token_hex(4)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """An incident; times are epoch ms. `since` to `until` is the period under examination, with an open end if None."""

    title: str
    aware_at: int
    opened_by: str
    since: int
    until: int | None = None
    actor: str | None = None  # narrows the affected objects
    handler: str | None = None  # as above
    token: str | None = None  # as above: the fingerprint of an access token
    opened_at: int = field(default_factory=now_ms)
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    notified_at: int | None = None  # the supervisory authority
    closed_at: int | None = None
    closed_by: str | None = None

    @property
    def due_at(self) -> int:
        """The epoch ms by which the authority must be notified."""
        return self.aware_at + NOTIFICATION_MS

    @property
    def state(self) -> IncidentState:
        """Whether it is still worked on."""
        return IncidentState.OPEN if self.closed_at is None else IncidentState.CLOSED

    @property
    def filters(self) -> Filters:
        """Which audit records tell the affected objects."""
        return Filters(since=self.since, until=self.until, actor=self.actor, handler=self.handler, token=self.token)

    def clock_state(self, now: int) -> ClockState:
        """Return the state of the 72 hours at an epoch ms."""
        if self.notified_at is not None:
            return ClockState.NOTIFIED if self.notified_at <= self.due_at else ClockState.NOTIFIED_LATE
        if self.closed_at is not None:
            return ClockState.ENDED
        return ClockState.RUNNING if now <= self.due_at else ClockState.OVERDUE

    def clock_sentence(self, now: int) -> str:
        """Return the state of the 72 hours at an epoch ms, as a sentence."""
        match self.clock_state(now):
            case ClockState.RUNNING:
                return f"{_duration(self.due_at - now)} left to notify the authority."
            case ClockState.OVERDUE:
                return f"OVERDUE by {_duration(now - self.due_at)}: the authority is not notified."
            case ClockState.NOTIFIED:
                return f"The authority was notified in time, {_duration((self.notified_at or 0) - self.aware_at)} in."
            case ClockState.NOTIFIED_LATE:
                return f"The authority was notified {_duration((self.notified_at or 0) - self.due_at)} late."
            case ClockState.ENDED:
                return "The incident was closed without a notification of the authority."

    def as_dict(self, now: int) -> dict[str, object]:
        """Return the fields, and the clock at an epoch ms, ready for JSON."""
        clock = {"due_at": self.due_at, "clock": self.clock_state(now), "clock_sentence": self.clock_sentence(now)}
        remaining = max(self.due_at - now, 0) if self.clock_state(now) is ClockState.RUNNING else 0
        return {**asdict(self), "state": self.state, **clock, "remaining_ms": remaining}

    def to_row(self) -> Row:
        """Return the row stored in the table."""
        return asdict(self)


def new_incident(
    title: str, mask: Mask, *, opened_by: str, aware_at: int | None = None, since: int | None = None, **scope: object
) -> Incident:
    """Return a new incident with its title masked.

    Args:
        aware_at: now if None.
        since: a day before `aware_at` if None.
        scope: the other fields that narrow it: `until`, `actor`, `handler`, `token`.

    Raises:
        IncidentRejected: the title is empty or too long, or the times contradict each other or lie in the future.
    """
    now = now_ms()
    aware_at = now if aware_at is None else aware_at
    since = aware_at - _DAY_MS if since is None else since
    cleaned = clean_text(title, mask, what="title", limit=MAX_TITLE)
    texts = {name: storable(value) if isinstance(value, str) else value for name, value in scope.items()}
    incident = Incident(title=cleaned, aware_at=aware_at, opened_by=opened_by, since=since, **texts)  # type: ignore[arg-type]  # by name
    check_times(incident, now)
    return incident


def check_times(incident: Incident, now: int) -> None:
    """Check the times of a new incident.

    Raises:
        IncidentRejected: they contradict each other or lie in the future.
    """
    if incident.aware_at > now:
        raise IncidentRejected("The time of awareness is in the future. Write when you became aware, such as 2h.")
    if incident.since > now:
        raise IncidentRejected("The period to examine begins in the future. Write an earlier time, such as 7d.")
    if incident.until is not None and incident.until <= incident.since:
        raise IncidentRejected(
            "The period to examine ends before it begins. Write a later end, or leave it out for an open end."
        )


def is_incident_id(text: str) -> bool:
    """Return whether the text has the form of an incident's id; other text may be none that a database can store."""
    return re.fullmatch("[0-9a-f]{8}", text) is not None


def storable(text: str) -> str:
    """Return the text with characters that every database can store."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def clean_text(text: str, mask: Mask, *, what: str, limit: int) -> str:
    """Return the text as it is stored: masked, and of characters that every database can store.

    Raises:
        IncidentRejected: it is empty, or longer than `limit` characters.
    """
    stripped = storable(text.strip())
    if not stripped:
        raise IncidentRejected(f"The {what} is empty. Write what happened in a few words.")
    if len(stripped) > limit:
        raise IncidentRejected(f"The {what} has {len(stripped):,} characters; {limit:,} are allowed. Shorten it.")
    return mask.text(stripped)


def check_notified_at(notified_at: int, now: int) -> None:
    """Check the time at which the authority was notified.

    Raises:
        IncidentRejected: it lies in the future.
    """
    if notified_at > now:
        raise IncidentRejected("The time of the notification is in the future. Write when the authority was notified.")


def _duration(duration_ms: int) -> str:
    hours, minutes = divmod(duration_ms // _MINUTE_MS, _MINUTES_PER_HOUR)
    return f"{hours} h {minutes} min"
