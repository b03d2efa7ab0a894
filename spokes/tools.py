"""What a handler works with. Rule: everything it may do, and nothing of the machinery around it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from spokes.crm.records import Record
    from spokes.crm.services import Services


class Once(Protocol):
    """Guards an effect that must not be repeated, such as a note: HubSpot has no idempotency keys."""

    async def __call__(
        self,
        name: str,
        create: Callable[[], Awaitable[str]],
        *,
        find: Callable[[], Awaitable[str | None]] | None = None,
    ) -> str:
        """Run `make` once for the event's object and `name`, whatever crashes, retries and replays; return its id.

        Args:
            name: tells this effect from the object's others.
            make: has the effect, and returns the id of what it made.
            find: looks for what an earlier run made. Called only when such a run was cut off between the effect and
                its record; without it, `make` runs again in that case.
        """


class CurrentValue(Protocol):
    """Tells what counts of a property that the handler writes back in another form."""

    async def __call__(self, record: "Record", name: str) -> str:
        """Return what is there, unless our own write lies on top of the change that the event tells: then its value.

        Between our reading and our writing a moment ago somebody may have changed the property, and HubSpot has no way
        to write only where nothing changed. Whatever somebody has set since counts before what the event tells.
        """


@dataclass(slots=True)
class Tools:
    """A handler's tools.

    `standing` tells what counts of a property; `forget` erases what we hold on the event's object; `region` is the
    country of phone numbers without a +; `attempt` is 1 on the first run. An event may speak for older changes of the
    same property that waited with it: `first_value` is then what the oldest of them set, and `older` says how many
    there were.
    """

    _crm_factory: Callable[[], "Services"]
    _once_factory: Callable[[], Once]
    current_value: CurrentValue
    purge: Callable[[], Awaitable[None]]
    default_region: str
    attempt: int
    oldest_value: str | None = None
    coalesced_count: int = 0
    has_used_crm: bool = False
    _crm: "Services | None" = None

    @property
    def crm(self) -> "Services":
        """HubSpot, as far as the handler declared it."""
        if self._crm is None:
            self._crm = self._crm_factory()
            self.has_used_crm = True
        return self._crm

    @property
    def once(self) -> Once:
        """Guards an effect that must not be repeated; see Once."""
        return self._once_factory()
