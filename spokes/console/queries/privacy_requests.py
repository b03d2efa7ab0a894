"""What people have asked for, with due dates. Rule: a request is late when its law says so, not when we notice."""

import time
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.queries.portal_scope import Portals, sees
from spokes.privacy.requests import ErasureRequest, State, requests

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and in how many days it is due; negative when it is late, None when it is done."""

    request: ErasureRequest
    due_in_days: int | None


async def privacy_requests(
    engine: AsyncEngine, portals: Portals, *, state: State | None = None, now_ms: int | None = None
) -> tuple[Asked, ...]:
    """Return the requests, the most urgent first.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return tuple(
        Asked(asked, None if asked.state is State.DONE else (asked.due_at - now) // _DAY_MS)
        for asked in await requests(engine, state=state)
        if sees(portals, asked.portal_id)
    )
