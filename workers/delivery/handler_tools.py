"""What the tools of one handler run are made of.

The context records what the handler reads and writes, and refuses writes once the lease of its lane has ended.
"""

import time
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, NamedTuple

from redis.asyncio import Redis

from spokes.core.errors import LeaseLost, NotPermitted
from spokes.core.priority import Priority, priority_of
from spokes.http.calls import Http
from spokes.intake.portal_events import PORTAL_UNINSTALLED
from spokes.portal import EventPortal
from spokes.privacy.redis_purge import purge_object
from spokes.queue.pauses.call_breaker import CallBreaker
from spokes.queue.quarantine import Quarantine
from spokes.routing import Route
from spokes.tools import Once
from workers.delivery.once import OnceGuard
from workers.handlers.portals import HandlerPortals
from workers.http.handler_http import HandlerHttp
from workers.http.session import HttpSession
from workers.lanes.handler_timeouts import HandlerTimeout
from workers.lanes.lanes import HandlerCall, Lane, WorkItem

if TYPE_CHECKING:
    from spokes.crm.services import CRM, Services, WriteRecord


class EventContext:
    """The `spokes.crm.access.HandlerContext` of one handler call; `writes` collects its writes."""

    __slots__ = ("_fingerprint_of", "_item", "_lane", "_timeout", "has_failed_before", "priority", "writes")

    def __init__(
        self,
        item: WorkItem,
        lane: Lane,
        timeout: HandlerTimeout,
        writes: "list[WriteRecord]",
        *,
        fingerprint_of: Callable[[int], str],
    ) -> None:
        self._item = item
        self._lane = lane
        self._timeout = timeout
        self._fingerprint_of = fingerprint_of
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
        self._item.token_fingerprint = self._fingerprint_of(self._item.event.portal_id)

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


class ToolParts(NamedTuple):
    """What the tools of all handler runs of a process are made of."""

    crm: "CRM"
    redis: Redis
    quarantine: Quarantine
    object_hash_key: bytes
    http: HttpSession
    breaker: CallBreaker
    portals: HandlerPortals


class RunTools:
    """The `spokes.tools.ToolSource` of one handler run; `writes` collects its writes."""

    __slots__ = ("_call", "_lane", "_once", "_parts", "_route", "_timeout", "_writes")

    def __init__(
        self,
        parts: ToolParts,
        call: HandlerCall,
        route: Route,
        *,
        lane: Lane,
        timeout: HandlerTimeout,
        writes: "list[WriteRecord]",
    ) -> None:
        self._parts = parts
        self._call = call
        self._route = route
        self._lane = lane
        self._timeout = timeout
        self._writes = writes
        self._once: OnceGuard | None = None

    @property
    def default_region(self) -> str:
        """See Tools."""
        return self._parts.portals.region(self._call.item.event.portal_id)

    @property
    def oldest_value(self) -> str | None:
        """See Tools."""
        return self._call.oldest_event.property_value

    def crm(self) -> "Services":
        """See ToolSource.

        Raises:
            NotPermitted: the portal has removed the app, so its CRM cannot be called any more.
        """
        crm, item, uses = self._parts.crm, self._call.item, self._route.uses
        if item.event.type == PORTAL_UNINSTALLED:
            raise NotPermitted(code="PORTAL_UNINSTALLED")
        fingerprint_of = crm.fingerprint_of
        context = EventContext(item, self._lane, self._timeout, self._writes, fingerprint_of=fingerprint_of)
        event = item.event
        return crm.handler_services(event.portal_id, event.object_type, uses.reads, uses.may, context)

    def http(self) -> Http:
        """See ToolSource."""
        return HandlerHttp(self._parts.http, self._parts.breaker, self._call.item, self._route, self._lane)

    def portal(self) -> EventPortal:
        """See ToolSource."""
        return self._parts.portals.portal(self._call.item.event.portal_id)

    def once(self) -> Once:
        """See ToolSource."""
        if self._once is None:
            item = self._call.item
            self._once = OnceGuard(self._parts.redis, item.event, self._route.name, is_shared=bool(item.handler))
        return self._once

    async def purge(self) -> None:
        """See ToolSource."""
        parts = self._parts
        await purge_object(parts.redis, parts.quarantine, self._call.item.event, parts.object_hash_key)
