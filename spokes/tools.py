"""`Tools`, the second argument of every handler, and the protocols of its members."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

from spokes.core.deprecation import DeprecatedAlias
from spokes.core.errors import SpokesError

if TYPE_CHECKING:
    from spokes.crm.records import Record
    from spokes.crm.services import Services
    from spokes.http.calls import Http
    from spokes.portal import EventPortal


class ToolsInOtherThread(SpokesError, RuntimeError):
    """A handler uses its tools in another thread than its own, as in `asyncio.to_thread(asyncio.run, ...)`.

    Other handlers share the connections and batches of the tools, which belong to the handler's event loop.
    """

    reason = "handler_error:ToolsInOtherThread"

    def __init__(self) -> None:
        super().__init__("tools belong to the handler's event loop: call them there, and give threads their results")


class Once(Protocol):
    """Guards an effect that must not be repeated, such as creating a note: HubSpot has no idempotency keys."""

    async def __call__(
        self,
        name: str,
        create: Callable[[], Awaitable[str]],
        *,
        find: Callable[[], Awaitable[str | None]] | None = None,
    ) -> str:
        """Call `create` once for the event's object and `name`, despite crashes, retries and replays; return its id.

        Args:
            name: distinguishes this effect from other effects on the object.
            create: has the effect, and returns the id of the created object.
            find: searches for the object that an earlier run created. It is called only if such a run was interrupted
                between the effect and its record; without `find`, `create` is called again in that case.
        """


class CurrentValue(Protocol):
    """Returns the current value of a property that the handler writes back in another form."""

    async def __call__(self, record: "Record", name: str) -> str:
        """Return the property's value in `record`, or the event's value if our own write replaced the event's change.

        HubSpot has no conditional write: a person may change a property between our read and our write, and our write
        then replaces that change. The event's value restores it. A change that a person made after the event counts
        before the event's value.
        """


class ToolSource(Protocol):
    """Makes the tools of one handler run when it first asks for them: most handlers use few."""

    @property
    def default_region(self) -> str:
        """See Tools."""

    @property
    def oldest_value(self) -> str | None:
        """See Tools."""

    def crm(self) -> "Services":
        """Return the services that the handler declared."""

    def http(self) -> "Http":
        """Return the calls of the hosts that the handler declared."""

    def portal(self) -> "EventPortal":
        """Return the portal of the event."""

    def once(self) -> Once:
        """Return the guard of the event's object."""

    async def purge(self) -> None:
        """Delete the data we hold on the event's object."""


@dataclass(slots=True)
class Tools:
    """A handler's tools.

    `current_value` returns the value to act on for a property; `attempt` is 1 on the first run. Older changes of the
    same property that waited with the event are coalesced into this call: `coalesced_count` is their number.

    In another thread than the handler's, what calls HubSpot, another host or Redis raises ToolsInOtherThread.
    """

    _source: ToolSource
    current_value: CurrentValue
    attempt: int
    coalesced_count: int = 0
    _crm: "Services | None" = None
    _http: "Http | None" = None
    _thread: int = field(default_factory=get_ident)

    standing = DeprecatedAlias("current_value")
    forget = DeprecatedAlias("purge")
    region = DeprecatedAlias("default_region")
    first_value = DeprecatedAlias("oldest_value")
    older = DeprecatedAlias("coalesced_count")

    @property
    def default_region(self) -> str:
        """The country of phone numbers without a +, as in `US`."""
        return self._source.default_region

    @property
    def oldest_value(self) -> str | None:
        """The value that the oldest of the coalesced changes set."""
        return self._source.oldest_value

    @property
    def crm(self) -> "Services":
        """HubSpot's CRM, restricted to what the handler declared with `@uses`."""
        self._require_own_thread()
        if self._crm is None:
            self._crm = self._source.crm()
        return self._crm

    @property
    def http(self) -> "Http":
        """HTTP calls of the hosts that the handler declared with `@uses(calls=...)`; see Http."""
        self._require_own_thread()
        if self._http is None:
            self._http = self._source.http()
        return self._http

    @property
    def portal(self) -> "EventPortal":
        """The portal of the event: its id, name, time zone, currency and settings; see EventPortal."""
        return self._source.portal()

    @property
    def once(self) -> Once:
        """Guards an effect that must not be repeated; see Once."""
        self._require_own_thread()
        return self._source.once()

    async def purge(self) -> None:
        """Delete the data we hold on the event's object."""
        self._require_own_thread()
        await self._source.purge()

    def _require_own_thread(self) -> None:
        if get_ident() != self._thread:
            raise ToolsInOtherThread
