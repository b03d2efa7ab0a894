"""The entries of a delivery as work items: an event with several handlers becomes one item for each of them. Pure.

Every item is settled, retried and stored as a dead letter under its own key. An entry of one of several handlers stays
that handler's, whatever handlers are registered when it runs again.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from spokes.core.delivery import Entry, entry_key
from spokes.core.errors import UnreadableDelivery
from workers.lanes.lanes import OwningRun, WorkItem

if TYPE_CHECKING:
    from spokes.core.events import Event
    from spokes.routing import Route, Router


def open_items(run: OwningRun, entries: Iterable[Entry], router: "Router") -> list[WorkItem]:
    """Return the work items of a run, the handlers of one event in the order of the router.

    Raises:
        UnreadableDelivery: an entry is not an event.
    """
    items: list[WorkItem] = []
    for entry in entries:
        event = entry.event
        if "." in entry.key:
            items.append(_open_item(run, entry, event, _names(router, event)))
        elif router.has_shared_events and len(names := _names(router, event)) > 1:
            items += [_open_item(run, entry.for_handler(name), event, names) for name in names]
        else:
            items.append(WorkItem(run, entry, event))
    return items


def _open_item(run: OwningRun, entry: Entry, event: "Event", names: tuple[str, ...]) -> WorkItem:
    """Return the item of one of several handlers; `names` are those of the handlers that are registered now."""
    handler = entry.handler
    handlers = names if handler in names else (*names, handler)
    return WorkItem(run, entry, event, handler=handler, handlers=handlers, position=handlers.index(handler))


def _names(router: "Router", event: "Event") -> tuple[str, ...]:
    return tuple([route.name for route in router.match_all(event)])


def split_entries(entries: Iterable[Entry], router: "Router") -> list[Entry]:
    """Return the entries as they are settled, one for each handler of an event; unreadable ones as they are."""
    split: list[Entry] = []
    for entry in entries:
        try:
            routes = () if entry.handler else router.match_all(entry.event)
        except UnreadableDelivery:
            routes = ()
        split += [entry.for_handler(route.name) for route in routes] if len(routes) > 1 else [entry]
    return split


def route_of(item: WorkItem, router: "Router") -> "Route | None":
    """Return the route of an item; None if no such handler is registered for its event."""
    if not item.handler:
        return router.match(item.event)
    return next((route for route in router.match_all(item.event) if route.name == item.handler), None)


def is_settled(entry: Entry, event: "Event", settled: Collection[str], router: "Router") -> bool:
    """Return whether an entry is settled, perhaps by a worker that had other handlers for its event.

    A worker with one handler for the event settles the event's key; one with several settles the key of each handler.
    """
    if not settled:
        return False
    if entry.key in settled or entry.event_key in settled:
        return True
    route = None if entry.handler else router.match(event)
    return route is not None and entry_key(entry.key, route.name) in settled
