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


@dataclass(frozen=True, slots=True)
class Tools:
    """A handler's tools.

    `crm` offers what the handler declared; `once` guards what cannot be repeated; `forget` erases what we hold on the
    event's object; `region` is the country of phone numbers without a +; `attempt` is 1 on the first run.
    """

    crm: "Services"
    once: Once
    forget: Callable[[], Awaitable[None]]
    region: str
    attempt: int
