"""Notice when our handlers, or we and somebody's automation, rewrite each other. Rule: it stops, and somebody is told.

What one handler writes does not run another, so two of ours stop after the first; who may have expected it is told.
People may change a property as often as they like. A program that sets it to a value which we have answered within the
last minute, or sets it after we have answered twice, only answers us.
"""

from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.core.events import Event
from spokes.core.masking import keyed_hash
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert
from spokes.routing import Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spokes.crm.services import WriteRecord

_WINDOW_S: Final = 60
_MAX_ROUNDS: Final = 2
_ALERT_INTERVAL_S: Final = 3600
_HUMAN_SOURCES: Final = frozenset({None, "CRM", "CRM_UI", "USER", "IMPORT", "MOBILE_IOS", "MOBILE_ANDROID", "FORM"})


class RewriteLoopDetector:
    """Our own writes of late, by object and property, and which handler made each."""

    def __init__(self, redis: Redis, key: bytes) -> None:
        """Keep rounds in `redis`; `key` hashes the values."""
        self._redis = redis
        self._key = key

    async def record_writes(self, event: Event, handler: str, writes: "Iterable[WriteRecord]") -> None:
        """Take note of what a handler has written in answer to an event."""
        made = [write for write in writes if write.ok and write.object_id and write.properties]
        if not made:
            return
        by_program = _is_automated(event)
        async with self._redis.pipeline(transaction=True) as pipeline:
            if by_program:
                pipeline.hset(_redis_key(event), self._answer_field(event), "1")
                pipeline.expire(_redis_key(event), _WINDOW_S, nx=True)
            for write in made:
                name = keys.rewrite_loops(event.portal_id, write.object_type, write.object_id)
                for property_name in write.properties:
                    pipeline.hset(name, f"by:{property_name}", handler)
                    pipeline.hincrby(name, property_name, int(by_program))
                pipeline.expire(name, _WINDOW_S, nx=True)
            await pipeline.execute()

    async def on_echo(self, event: Event, route: Route | None) -> None:
        """Tell of an own write whose echo another handler, which may write itself, would have answered."""
        if route is None or not route.uses.may:
            return
        (written_by,) = await self._read(event, f"by:{event.property_name}")
        if written_by is not None and written_by.decode() != route.name:
            await self._alert(event, wrote=written_by.decode(), not_run=route.name)

    async def is_loop(self, event: Event) -> bool:
        """Return whether the event only answers what we wrote, over and over."""
        if not _is_automated(event):
            return False
        count, answered = await self._read(event, event.property_name or "", self._answer_field(event))
        if answered is None and int(count or 0) < _MAX_ROUNDS:
            return False
        await self._alert(event)
        return True

    async def _read(self, event: Event, *names: str) -> list[bytes | None]:
        found: list[bytes | None] = await self._redis.hmget(_redis_key(event), names)  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and knows lists only
        return found

    def _answer_field(self, event: Event) -> str:
        told = str(event.occurred_at) if event.is_sensitive else event.property_value or ""  # withheld ones look alike
        return f"answered:{event.property_name}:{keyed_hash(self._key, told)}"

    async def _alert(self, event: Event, **handlers: str) -> None:
        """Once an hour for each property, and pair of handlers."""
        name = ":".join(("loop", event.type, event.property_name or "", *handlers.values()))
        if await self._redis.set(keys.alert_once(event.portal_id, name), 1, nx=True, ex=_ALERT_INTERVAL_S):
            fields = {"portal_id": event.portal_id, "event_type": event.type, "property_name": event.property_name}
            await AlertEpisodes(self._redis).report_once(Alert.REWRITE_LOOP, **fields, **handlers)


def _redis_key(event: Event) -> str:
    return keys.rewrite_loops(event.portal_id, event.object_type, event.object_id)


def _is_automated(event: Event) -> bool:
    return event.kind == "propertyChange" and event.change_source not in _HUMAN_SOURCES
