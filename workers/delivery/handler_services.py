"""The CRM services of one handler call.

The context records what the handler reads and writes, and refuses writes once the lease of its lane has ended.
"""

import time
from collections.abc import Container
from typing import TYPE_CHECKING

from spokes.core.errors import LeaseLost
from spokes.core.priority import Priority, priority_of
from spokes.routing import Route
from workers.delivery.handler_timeouts import HandlerTimeout
from workers.delivery.lanes import Lane, WorkItem

if TYPE_CHECKING:
    from spokes.crm.services import CRM, Services, WriteRecord


class EventContext:
    """The `spokes.crm.access.HandlerContext` of one handler call; `writes` collects its writes."""

    __slots__ = ("_item", "_lane", "_timeout", "_token_fingerprint", "has_failed_before", "priority", "writes")

    def __init__(
        self,
        item: WorkItem,
        lane: Lane,
        timeout: HandlerTimeout,
        writes: "list[WriteRecord]",
        *,
        token_fingerprint: str,
    ) -> None:
        self._item = item
        self._lane = lane
        self._timeout = timeout
        self._token_fingerprint = token_fingerprint
        is_import = item.delivery_run.delivery.priority == "import"
        # Deliveries queued by versions before the classes hold both kinds of events.
        self.priority: Priority = "import" if is_import else priority_of(item.event.change_source)
        self.has_failed_before = item.entry.attempt > 0
        self.writes = writes

    def before_write(self) -> None:
        """Allow a write to begin; the handler's time-out does not cancel it while the write is in flight.

        Raises:
            LeaseLost: see `before_send`.
        """
        self._check_lease()
        self._timeout.writes_in_flight += 1

    def before_send(self) -> None:
        """Allow a call to be sent, and note with which token.

        Raises:
            LeaseLost: the lane's lease has ended, so another worker may be working on the object.
        """
        self._check_lease()
        self._item.token_fingerprint = self._token_fingerprint

    def _check_lease(self) -> None:
        if time.monotonic() > self._lane.lease_until:
            raise LeaseLost

    def on_read(self, object_type: str, properties: Container[str]) -> None:
        """Note that the handler has read the value that HubSpot withheld from its event."""
        event = self._item.event
        if event.is_sensitive and object_type == event.object_type and event.property_name in properties:
            self._item.read_withheld_value = True

    def on_write(self, write: "WriteRecord") -> None:
        """Record a write that has ended."""
        self._timeout.writes_in_flight -= 1
        self.writes.append(write)


def services_for(
    crm: "CRM", item: WorkItem, route: Route, *, lane: Lane, timeout: HandlerTimeout, writes: "list[WriteRecord]"
) -> "Services":
    """Return the services that `route` declared, for the event of `item`; its writes are added to `writes`."""
    event = item.event
    context = EventContext(item, lane, timeout, writes, token_fingerprint=crm.token_fingerprint)
    return crm.handler_services(event.portal_id, event.object_type, route.uses.reads, route.uses.may, context)
