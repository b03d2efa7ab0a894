"""Work items of one CRM object: which lane they share, in which order they run, which are coalesced. Pure.

A change older than an applied one is superseded. Changes of one property that wait in a lane together are coalesced:
the handler runs once, for the newest. Deletions and restorations change whether the object exists, and follow the same
rules.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from spokes.core.delivery import Delivery, Entry
from spokes.core.events import Event
from spokes.core.priority import Priority
from workers.lanes.resolution import CRASH_LOOP, ECHO, MERGED, SUPERSEDED, Resolution
from workers.queue.leases import lane_key

if TYPE_CHECKING:
    from spokes.crm.services import WriteRecord
    from spokes.queue.pauses.call_pauses import CallPause

_EXISTENCE: Final = "*"  # the ordering key of deletions and restorations; no property has this name
_CLOSE_MS: Final = 1000  # two changes of one property by people are further apart as a rule
_EXISTENCE_KINDS: Final = frozenset({"deletion", "restore"})
_ORDERED_KINDS: Final = _EXISTENCE_KINDS | {"propertyChange"}  # of events with an ordering key


class OwningRun(Protocol):
    """The run that items belong to: a workers.delivery.delivery_run.DeliveryRun."""

    delivery: Delivery
    crash_loop: bool

    def resolve(
        self,
        item: "WorkItem",
        resolution: "Resolution",
        handler: str = "",
        writes: "Sequence[WriteRecord]" = (),
        applied: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Settle an event, or have it retried."""

    def is_settled(self, item: "WorkItem", settled: Collection[str]) -> bool:
        """Return whether an earlier run settled the item."""

    def skip_settled(self, count: int) -> None:
        """Leave out events that an earlier run settled."""

    def fail(self, error: Exception) -> None:
        """End the run with an error, because one of its events cannot be resolved."""


@dataclass(slots=True, eq=False)
class WorkItem:
    """One event in a delivery run; of an event with several handlers, one for each of them.

    Attributes:
        handler: the name of the handler that processes it, if the event has several; otherwise empty.
        handlers: the names of all handlers of such an event, in the order of the router.
        position: of the item's handler among them.
        event: as it is processed: after a merge, the event of the surviving record. `entry.event` is as received.
        echo_keys: keys of the own-write ledger; the event is an echo if one of them exists.
        merged_from: the object id as received, if the record was merged into another one since.
        awaits_lane: whether the item has not entered its lane yet.
        read_withheld_value: whether the handler has read the value that HubSpot withheld from the event.
        token_fingerprint: of the access token with which the handler called HubSpot; empty if it made no call.
        probed_calls: the pause that its handler call probes, if any.
        http_calls: records of the calls of `tools.http`, without paths and contents.
        is_resolved: whether its run has accounted for it.
        ordering_key: see `ordering_key`; read several times in each run.
    """

    delivery_run: OwningRun
    entry: Entry
    event: Event
    handler: str = ""
    handlers: tuple[str, ...] = ()
    position: int = 0
    echo_keys: tuple[str, ...] = ()
    is_echo: bool = False
    merged_from: str = ""
    awaits_lane: bool = True
    read_withheld_value: bool = False
    token_fingerprint: str = ""
    probed_calls: "CallPause | None" = None
    http_calls: tuple[Mapping[str, object], ...] = ()
    is_resolved: bool = False
    ordering_key: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.event.kind in _ORDERED_KINDS:
            self.ordering_key = ordering_key(self.event, self.handler)


@dataclass(slots=True, eq=False)
class Lane:
    """The lease on one CRM object, and the items that wait for it in this process.

    Attributes:
        lease_until: end of the lease, in seconds of the monotonic clock. A process that was suspended, or cut off from
            Redis, for longer than a lease detects by it that another worker may hold the lane.
        newest_applied: by ordering key, the `occurredAt` of the newest change applied.
        calls: the planned handler calls that have not begun, the next one last.
        call: the one that has begun.
        priority: the most urgent class of the items that have entered the lane.
        portal_id: of the object.
        task: the asyncio task that runs the lane, if the lane pool runs it.
    """

    key: str
    token: str
    lease_until: float
    items: list[WorkItem] = field(default_factory=list)
    newest_applied: dict[str, int] = field(default_factory=dict)
    calls: "list[HandlerCall]" = field(default_factory=list)
    call: "HandlerCall | None" = None
    priority: Priority = "interactive"
    portal_id: int = 0
    task: Any = None

    def advance(self, applied: Mapping[str, int]) -> None:
        """Raise the newest applied timestamps to those of a handler call; they never fall."""
        for name, at in applied.items():
            self.newest_applied[name] = max(at, self.newest_applied.get(name, 0))

    def hand_over(self) -> "Lane":
        """Return a lane with our lease and everything that has not begun; we may write nothing more to the object."""
        waiting = [item for call in reversed(self.calls) for item in (*call.coalesced, call.item)]
        successor = Lane(self.key, self.token, self.lease_until, [*waiting, *self.items], self.newest_applied)
        successor.priority, successor.portal_id = self.priority, self.portal_id
        self.lease_until = 0.0
        self.calls, self.items = [], []
        return successor


class HandlerCall(NamedTuple):
    """One call of a handler, and the older changes that it covers, oldest first."""

    item: WorkItem
    coalesced: tuple[WorkItem, ...] = ()

    @property
    def oldest_event(self) -> Event:
        """The event of the oldest change that the call covers."""
        return (self.coalesced[0] if self.coalesced else self.item).event


def group_by_lane(items: Iterable[WorkItem]) -> dict[str, list[WorkItem]]:
    """Return items by the key of their lane."""
    lanes: dict[str, list[WorkItem]] = {}
    for item in items:
        lanes.setdefault(lane_key(item.event, item.entry.key), []).append(item)
    return lanes


def ordering_key(event: Event, handler: str = "") -> str | None:
    """Return the name of what the event changed: a property, or the object's existence.

    Changes with the same ordering key supersede each other, for each of several handlers by itself: what one of them
    has applied, the others have not. None: the order of such events does not matter.

    Args:
        event: the event.
        handler: the item's handler, see WorkItem.
    """
    if event.kind == "propertyChange":
        name = event.property_name
        return f"{name}@{handler}" if handler and name is not None else name
    if event.kind not in _EXISTENCE_KINDS:
        return None
    return f"{_EXISTENCE}@{handler}" if handler else _EXISTENCE


def blocking_key(item: WorkItem) -> str:
    """Return the name of what waits while an item is retried: its property, the object's existence, or its kind.

    Items with the same name have the same handler. Never empty; no property has a name with a dot.
    """
    return item.ordering_key or f".{item.event.kind}@{item.handler}"


def is_superseded(item: WorkItem, newest_applied: Mapping[str, int]) -> bool:
    """Return whether a newer change with the same ordering key was applied already.

    Args:
        item: any item; one without an ordering key is never superseded.
        newest_applied: by ordering key, the `occurredAt` of the newest change applied.
    """
    name = item.ordering_key
    return name is not None and item.event.occurred_at < newest_applied.get(name, 0)


def known_resolution(item: WorkItem, lane: Lane) -> Resolution | None:
    """Return the resolution that follows from what is known before the handler runs, or None."""
    if item.delivery_run.crash_loop:
        return CRASH_LOOP
    if item.merged_from and item.event.kind == "deletion":
        return MERGED
    if lane.newest_applied and is_superseded(item, lane.newest_applied):
        return SUPERSEDED
    return ECHO if item.is_echo else None


def newest_applied_by_any(item: WorkItem, lane: Lane) -> int:
    """Return the `occurredAt` of the newest change of the item's property that a handler has applied; 0 without one."""
    if not item.handler:
        return lane.newest_applied.get(item.ordering_key or "", 0)
    name = ordering_key(item.event)
    return max((at for key, at in lane.newest_applied.items() if key.partition("@")[0] == name), default=0)


def unproven_pairs(call: HandlerCall, newest_applied: Mapping[str, int]) -> int:
    """Return how many journal events of a call probably repeat a pushed one, although their keys differ.

    If an intake's time or value of a change differs, it is two events: the newest wins, and such pairs are counted.

    Args:
        call: with the older changes that it covers.
        newest_applied: by ordering key, the `occurredAt` of the newest change applied before the call.
    """
    items = (*call.coalesced, call.item)
    pairs = 0
    for item in items:
        name = item.ordering_key
        if item.event.intake != "journal" or name is None:
            continue
        times = [newest_applied.get(name, 0)]
        times += [other.event.occurred_at for other in items if other.event.intake != "journal"]
        pairs += any(abs(item.event.occurred_at - at) <= _CLOSE_MS for at in times)
    return pairs


def _sort_key(item: WorkItem) -> tuple[int, int, int]:
    """Order items by the time of their changes; within one millisecond, by event id, which is the best guess.

    The handlers of one event start in the order of the router.
    """
    return item.event.occurred_at, item.event.event_id or 0, item.position


def plan_calls(
    items: list[WorkItem], newest_applied: Mapping[str, int], handles_each_event: Callable[[WorkItem], bool]
) -> list[HandlerCall]:
    """Return the handler calls for the items of one lane, oldest first.

    Args:
        items: all items that wait in the lane; sorted in place.
        newest_applied: see is_superseded; superseded changes are not coalesced.
        handles_each_event: whether the handler of an item declared `each_event`: then nothing is coalesced for it.
    """
    items.sort(key=_sort_key)
    latest: dict[str, WorkItem] = {}
    older: dict[WorkItem, list[WorkItem]] = {}
    for item in items:
        name = item.ordering_key
        if name is None or item.is_echo or is_superseded(item, newest_applied) or handles_each_event(item):
            continue
        if before := latest.get(name):
            older[item] = [*older.pop(before, []), before]
        latest[name] = item
    coalesced = {item for group in older.values() for item in group}
    return [HandlerCall(item, tuple(older.get(item, ()))) for item in items if item not in coalesced]
