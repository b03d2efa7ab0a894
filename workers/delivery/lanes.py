"""One object at a time, newest truth wins. Rule: pure; who holds an object's lane is the only one working on it.

A change older than one that was applied is superseded. Several changes of one property that wait together reach the
handler once, as the newest; a deletion and a restoring are changes of whether the object is there, and count alike.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from spokes.core.delivery import Entry
from spokes.core.events import Event
from spokes.core.redis import keys

if TYPE_CHECKING:
    from workers.delivery.delivery_run import DeliveryRun

_EXISTENCE: Final = "*"  # stands among property names for whether the object is there; no property is called so
_EXISTENCE_KINDS: Final = frozenset({"deletion", "restore"})


@dataclass(slots=True, eq=False)
class WorkItem:
    """An event to be worked on, with the entry and the run of the delivery it came in.

    `merged_from` is the id under which it came when its object lives on under another; `echo_keys` are what our ledger
    would call it if it were our own write; `hopes` says whether it is still to be let into its lane;
    `read_through` that its handler has read the value which HubSpot withheld.
    """

    delivery_run: "DeliveryRun"
    entry: Entry
    event: Event
    echo_keys: tuple[str, ...] = ()
    is_echo: bool = False
    merged_from: str = ""
    awaits_lane: bool = True
    read_withheld_value: bool = False


@dataclass(slots=True, eq=False)
class Lane:
    """An object's lane while it is ours: the works that wait in it, and how new the applied truth is, by name.

    `until` is when it may become another's, in seconds of the monotonic clock: a process that was frozen, or away from
    Redis, for longer than a lease finds out by it.
    """

    key: str
    token: str
    lease_until: float
    items: list[WorkItem] = field(default_factory=list)
    newest_applied: dict[str, int] = field(default_factory=dict)


class HandlerCall(NamedTuple):
    """A work whose handler is to be called, and the older ones that it speaks for, oldest first."""

    item: WorkItem
    coalesced: tuple[WorkItem, ...] = ()

    @property
    def oldest_value(self) -> str | None:
        """The value of the oldest change that this turn stands for."""
        return (self.coalesced[0] if self.coalesced else self.item).event.property_value


def lane_key(event: Event, entry_key: str) -> str:
    """Return the lane of an event's object; an event without an object has a lane of its own."""
    return keys.lane(event.portal_id, event.object_type, event.survivor_id or entry_key)


def group_by_lane(items: Iterable[WorkItem]) -> dict[str, list[WorkItem]]:
    """Return works by lane."""
    lanes: dict[str, list[WorkItem]] = {}
    for work in items:
        lanes.setdefault(lane_key(work.event, work.entry.key), []).append(work)
    return lanes


def ordering_key(event: Event) -> str | None:
    """Return the name of what the event changed, under which newest marks stand; None where age does not matter."""
    if event.kind == "propertyChange":
        return event.property_name
    return _EXISTENCE if event.kind in _EXISTENCE_KINDS else None


def is_superseded(event: Event, newest_applied: Mapping[str, int]) -> bool:
    """Return whether a newer change of the same was already applied.

    Args:
        event: any event; only those with a slot can be superseded.
        newest: slot to the `occurredAt` of the newest applied change.
    """
    name = ordering_key(event)
    return name is not None and event.occurred_at < newest_applied.get(name, 0)


def _sort_key(work: WorkItem) -> tuple[int, int]:
    """Order works as their changes happened; ids are the best guess at the order within one millisecond."""
    return work.event.occurred_at, work.event.event_id or 0


def plan_calls(
    items: list[WorkItem], newest_applied: Mapping[str, int], handles_each_event: Callable[[Event], bool]
) -> list[HandlerCall]:
    """Return in which turns one object's works are run, oldest first.

    Args:
        works: all that wait in one lane.
        newest: see is_superseded; what is superseded speaks for nobody and nobody for it.
        each: whether the event's handler wants every single change.
    """
    if len(items) == 1:
        return [HandlerCall(items[0])]
    items.sort(key=_sort_key)
    latest: dict[str, WorkItem] = {}
    older: dict[WorkItem, list[WorkItem]] = {}
    for work in items:
        name = ordering_key(work.event)
        if name is None or work.is_echo or is_superseded(work.event, newest_applied) or handles_each_event(work.event):
            continue
        if before := latest.get(name):
            older[work] = [*older.pop(before, []), before]
        latest[name] = work
    spoken_for = {work for group in older.values() for work in group}
    return [HandlerCall(work, tuple(older.get(work, ()))) for work in items if work not in spoken_for]
