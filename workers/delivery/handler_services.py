"""The CRM services of one turn. Rule: what a handler reads and changes is noted; without its lane it writes nothing."""

import time
from collections.abc import Container
from functools import partial
from typing import TYPE_CHECKING

from spokes.core.errors import LeaseLost
from spokes.crm.transport.rate_budget import priority_of
from spokes.routing import Route
from workers.delivery.handler_timeouts import HandlerTimeout
from workers.delivery.lanes import Lane, WorkItem

if TYPE_CHECKING:
    from spokes.crm.services import CRM, Services, WriteRecord


def services_for(
    crm: "CRM", item: WorkItem, route: Route, *, lane: Lane, timeout: HandlerTimeout, writes: "list[WriteRecord]"
) -> "Services":
    """Return what the handler of `route` may do for the event of `work`; what it writes is added to `writes`."""
    event = item.event
    return crm.handler_services(
        event.portal_id,
        event.object_type,
        route.uses.reads,
        route.uses.may,
        partial(_on_write, timeout, writes),
        before_write=partial(_before_write, timeout, lane),
        before_send=partial(_before_send, lane),
        priority=priority_of(event.change_source),
        on_read=partial(_on_read, item),
    )


def _on_write(limit: HandlerTimeout, writes: "list[WriteRecord]", write: "WriteRecord") -> None:
    """Take note of a change that was made, or was not."""
    limit.writes_in_flight -= 1
    writes.append(write)


def _on_read(work: WorkItem, object_type: str, properties: Container[str]) -> None:
    """Take note that a handler has read what HubSpot withheld from its event."""
    event = work.event
    if event.is_sensitive and object_type == event.object_type and event.property_name in properties:
        work.read_withheld_value = True


def _before_write(limit: HandlerTimeout, lane: Lane) -> None:
    """Let a change begin.

    Raises:
        LeaseLost: see `_still`.
    """
    _before_send(lane)
    limit.writes_in_flight += 1


def _before_send(lane: Lane) -> None:
    """Let a change leave; refuse it once another may be working on the object.

    Raises:
        LeaseLost: it may.
    """
    if time.monotonic() > lane.lease_until:
        raise LeaseLost
