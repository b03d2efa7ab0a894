"""The CRM services of one turn. Rule: what a handler reads and changes is noted; without its lane it writes nothing."""

import time
from collections.abc import Container
from functools import partial
from typing import TYPE_CHECKING

from spokes.core.errors import LeaseLost
from spokes.crm.transport.rate_budget import priority_of
from spokes.routing import Route
from workers.delivery.handler_timeouts import Limit
from workers.delivery.lanes import Lane, Work

if TYPE_CHECKING:
    from spokes.crm.services import CRM, Services, Write


def services_for(
    crm: "CRM", work: Work, route: Route, *, lane: Lane, limit: Limit, writes: "list[Write]"
) -> "Services":
    """Return what the handler of `route` may do for the event of `work`; what it writes is added to `writes`."""
    event = work.event
    return crm.for_event(
        event.portal_id,
        event.object_type,
        route.uses.reads,
        route.uses.may,
        partial(_made, limit, writes),
        permit=partial(_permit, limit, lane),
        still=partial(_still, lane),
        priority=priority_of(event.change_source),
        seen=partial(_seen, work),
    )


def _made(limit: Limit, writes: "list[Write]", write: "Write") -> None:
    """Take note of a change that was made, or was not."""
    limit.changes -= 1
    writes.append(write)


def _seen(work: Work, object_type: str, properties: Container[str]) -> None:
    """Take note that a handler has read what HubSpot withheld from its event."""
    event = work.event
    if event.is_sensitive and object_type == event.object_type and event.property_name in properties:
        work.read_through = True


def _permit(limit: Limit, lane: Lane) -> None:
    """Let a change begin.

    Raises:
        LeaseLost: see `_still`.
    """
    _still(lane)
    limit.changes += 1


def _still(lane: Lane) -> None:
    """Let a change leave; refuse it once another may be working on the object.

    Raises:
        LeaseLost: it may.
    """
    if time.monotonic() > lane.until:
        raise LeaseLost
