"""Pauses of one handler by an operator: its events wait, and other handlers of the same events run.

They are stored with the pauses of calls, under a kind that names the handler. Only an operator ends them.
"""

from collections.abc import Iterable
from typing import Final

from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append, append_now
from spokes.core import clock
from spokes.core.redis import keys
from spokes.queue.known_portals import check_portal, known_portals
from spokes.queue.pauses.call_pauses import HANDLER_PREFIX, CallPause, CallPauses
from spokes.queue.pauses.portal_pauses import OPERATOR

_NEVER_S: Final = 100 * 365 * 86_400.0


class HandlerPauses:
    """The handlers that operators have paused, by portal."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._calls = CallPauses(redis)

    async def pause(
        self, handler: str, portal_id: int | None, *, actor: str, reason: str, address: str = ""
    ) -> list[int]:
        """Pause a handler in a portal, or in all known ones; return the portals.

        Raises:
            UnknownPortal: the portal is not of this deployment.
        """
        if portal_id is not None:
            await check_portal(self._redis, portal_id)
        portal_ids = sorted(await known_portals(self._redis)) if portal_id is None else [portal_id]
        now = clock.now_s()
        async with self._redis.pipeline(transaction=True) as pipeline:
            for id_ in portal_ids:
                pause = CallPause(id_, HANDLER_PREFIX + handler, OPERATOR, now, now + _NEVER_S)
                pipeline.hset(keys.PAUSED_CALLS, pause.field, pause.to_json())
                append(pipeline, _record(Action.PORTAL_PAUSED, pause, (actor, address), reason))
            await pipeline.execute()
        return portal_ids

    async def resume(
        self, handler: str, portal_ids: Iterable[int] | None, *, actor: str, reason: str, address: str = ""
    ) -> list[int]:
        """Resume a handler in these portals, or in all, and make its events due; return where it was paused."""
        wanted = None if portal_ids is None else set(portal_ids)
        paused = [pause for pause in await self._calls.list() if pause.handler == handler]
        resumed = [
            pause for pause in paused if (wanted is None or pause.portal_id in wanted) and await self._calls.end(pause)
        ]
        for pause in resumed:
            await append_now(self._redis, _record(Action.PORTAL_RESUMED, pause, (actor, address), reason))
        return [pause.portal_id for pause in resumed]


def _record(action: Action, pause: CallPause, operator: tuple[str, str], reason: str) -> AuditRecord:
    """Return the record of an operator's action; a record of a portal that names a handler is about the handler."""
    actor, address = operator
    detail = {"address": address} if address else {}
    return AuditRecord(
        action=action, portal_id=pause.portal_id, handler=pause.handler, actor=actor, reason=reason, detail=detail
    )
