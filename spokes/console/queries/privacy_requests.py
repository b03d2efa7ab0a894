"""Privacy requests with their due dates."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.queries.portal_scope import Portals, can_see
from spokes.core import clock
from spokes.privacy.requests import ErasureRequest, RequestState, load_requests

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class PrivacyRequestView:
    """A request, and in how many days it is due: negative if late, None if done."""

    request: ErasureRequest
    due_in_days: int | None


async def list_privacy_requests(
    engine: AsyncEngine, portals: Portals, *, state: RequestState | None = None, now_ms: int | None = None
) -> tuple[PrivacyRequestView, ...]:
    """Return the requests, most urgent first.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    now = clock.now_ms() if now_ms is None else now_ms
    return tuple(
        PrivacyRequestView(request, None if request.state is RequestState.DONE else (request.due_at - now) // _DAY_MS)
        for request in await load_requests(engine, state=state)
        if can_see(portals, request.portal_id)
    )
