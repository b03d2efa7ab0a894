"""What a handler works with. Rule: everything it may do, and nothing of the machinery around it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from crm.services import Services


class Once(Protocol):
    """Guards an effect that must not be repeated, such as a note: HubSpot has no idempotency keys."""

    async def __call__(
        self, name: str, make: Callable[[], Awaitable[str]], *, find: Callable[[], Awaitable[str | None]] | None = None
    ) -> str:
        """Run `make` once for the event's object and `name`, whatever crashes, retries and replays; return its id.

        Args:
            name: tells this effect from the object's others.
            make: has the effect, and returns the id of what it made.
            find: looks for what an earlier run made. Called only when such a run was cut off between the effect and
                its record; without it, `make` runs again in that case.
        """


@dataclass(slots=True)
class Tools:
    """A handler's tools.

    `forget` erases what we hold on the event's object; `region` is the country of phone numbers without a +; `attempt`
    is 1 on the first run. An event may speak for older changes of the same property that waited with it: `first_value`
    is then what the oldest of them set, and `older` says how many there were.
    """

    make_crm: Callable[[], "Services"]
    make_once: Callable[[], Once]
    forget: Callable[[], Awaitable[None]]
    region: str
    attempt: int
    first_value: str | None = None
    older: int = 0
    uses_crm: bool = False
    _crm: "Services | None" = None

    @property
    def crm(self) -> "Services":
        """HubSpot, as far as the handler declared it."""
        if self._crm is None:
            self._crm = self.make_crm()
            self.uses_crm = True
        return self._crm

    @property
    def once(self) -> Once:
        """Guards an effect that must not be repeated; see Once."""
        return self.make_once()
