"""The arrivals of each registration, and of each event type without one. Pure."""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from spokes.core.events import GENERIC_NAME, JOURNAL_NAME
from spokes.intake.arrivals import DAY_MS, StoredArrivals
from spokes.subscriptions.subscribed_events import SubscribedEvent, parse_event

_PATTERN_DAYS: Final = 14  # before the last event, in which it must have come regularly
_MIN_DAYS: Final = 5
_MIN_SILENT_DAYS: Final = 3
_FACTOR: Final = 3  # times the longest usual pause


@dataclass(slots=True)
class ArrivedEvents:
    """Arrivals by registration, and by event for those without one.

    Attributes:
        days: the days, as numbers since the epoch, on which events of each registration came.
        last_at: the newest event of each registration, epoch ms.
        unregistered: when each other event last came, epoch ms.
        ignored: how many of each event nothing accepted.
        in_both_dialects: the events that came lately in the classic and in the generic dialect.
    """

    days: dict[str, set[int]] = field(default_factory=dict)
    last_at: dict[str, int] = field(default_factory=dict)
    unregistered: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    in_both_dialects: set[str] = field(default_factory=set)


def arrived_events(arrivals: StoredArrivals, registrations: Collection[str], *, recent_from_ms: int) -> ArrivedEvents:
    """Sort what arrived by the registration that it matches, as the router does."""
    arrived = ArrivedEvents()
    newest: dict[str, dict[bool, int]] = {}
    for spelled, times in arrivals.at.items():
        is_generic, is_pushed = spelled.endswith(GENERIC_NAME), not spelled.endswith(JOURNAL_NAME)
        name = spelled.removesuffix(GENERIC_NAME).removesuffix(JOURNAL_NAME)
        if is_pushed:
            newest.setdefault(name, {})[is_generic] = max(times)
        registration = matching_registration(parse_event(name), registrations)
        if registration is None:
            arrived.unregistered[name] = max(arrived.unregistered.get(name, 0), *times)
        else:
            arrived.days.setdefault(registration, set()).update(at // DAY_MS for at in times)
            arrived.last_at[registration] = max(arrived.last_at.get(registration, 0), *times)
    for spelled, count in arrivals.ignored.items():
        name = spelled.removesuffix(GENERIC_NAME).removesuffix(JOURNAL_NAME)
        arrived.ignored[name] = arrived.ignored.get(name, 0) + count
    arrived.in_both_dialects = {
        name
        for name, by_dialect in newest.items()
        if len(by_dialect) > 1 and min(by_dialect.values()) >= recent_from_ms
    }
    return arrived


def matching_registration(event: SubscribedEvent, registrations: Collection[str]) -> str | None:
    """Return the most specific registration that an event matches, None if there is none."""
    for object_type in (event.object_type, "object"):
        by_type = SubscribedEvent(object_type, event.kind)
        candidates = [by_type._replace(property_name=event.property_name), by_type]
        for candidate in map(str, candidates):
            if candidate in registrations:
                return candidate
    return None


def stopped_days(days: Collection[int], today: int) -> int:
    """Return for how many days events have been missing that came regularly before; 0 if they have not stopped.

    Args:
        days: on which events came, as numbers since the epoch.
        today: the number of the current day.
    """
    if not days:
        return 0
    last = max(days)
    regular = sorted(day for day in days if day > last - _PATTERN_DAYS)
    if len(regular) < _MIN_DAYS:
        return 0
    longest_pause = max(after - before for before, after in itertools.pairwise(regular))
    silent = today - last
    return silent if silent >= max(_MIN_SILENT_DAYS, _FACTOR * longest_pause) else 0


def counts_without_handler(arrived: ArrivedEvents) -> Mapping[str, int]:
    """Return how many events of each type came that no handler registers for, of those that nothing accepted."""
    return {name: arrived.ignored[name] for name in sorted(arrived.ignored) if name in arrived.unregistered}
