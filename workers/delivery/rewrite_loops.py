"""Detect handlers and automations that keep overwriting each other, stop the loop, and alert.

What one handler writes does not run another, so two of our handlers stop after the first write; the alert names both.
People may change a property as often as they like. A change by an automation is treated as a reaction to our writes if
it sets a value that we answered within the last minute, or comes after we answered twice.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.events import Event
from spokes.core.masking import keyed_hash
from spokes.core.redis import keys
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.scripts import read_script
from spokes.core.telemetry.alerts import Alert
from spokes.routing import Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spokes.crm.services import WriteRecord

_SCRIPT: Final = read_script(__file__, "record_loop_writes.lua")
_MAX_RECORDS: Final = 200  # of one script
_WINDOW_S: Final = 60
_MAX_ROUNDS: Final = 2
_ALERT_INTERVAL_S: Final = 3600
_HUMAN_SOURCES: Final = frozenset({None, "CRM", "CRM_UI", "USER", "IMPORT", "MOBILE_IOS", "MOBILE_ANDROID", "FORM"})


class LoopRecord(NamedTuple):
    """Fields to set in the hash `key` of one object: properties that `handler` wrote, or answers if it is empty."""

    key: str
    handler: str
    is_automated: bool
    fields: tuple[str, ...]


class RewriteLoopDetector:
    """Our writes of the last minute, by object and property, and the handler that made each."""

    def __init__(self, redis: Redis, key: bytes) -> None:
        """Store writes in `redis`; values are hashed with `key`."""
        self._redis = redis
        self._key = key
        self._script = redis.register_script(_SCRIPT)
        self._records: GroupCommit[list[LoopRecord], None] = GroupCommit(
            self._commit, max_weight=_MAX_RECORDS, weight=len, gathers=True
        )

    async def record_writes(
        self, event: Event, handler: str, writes: "Iterable[WriteRecord]", *, is_shared: bool = False
    ) -> None:
        """Record what a handler wrote in response to an event.

        If the event has several handlers (`is_shared`), each answers it once, and no answer concerns the others.
        """
        made = [write for write in writes if write.ok and write.object_id and write.properties]
        if not made:
            return
        is_reaction, scope = is_automated(event), handler if is_shared else ""
        records = [
            LoopRecord(
                keys.rewrite_loops(event.portal_id, write.object_type, write.object_id),
                handler, is_reaction, tuple(
                    _field(name, scope if name == event.property_name and _is_of(event, write) else "")
                    for name in write.properties
                ),
            )
            for write in made
        ]  # fmt: skip
        if is_reaction:
            records.append(LoopRecord(_redis_key(event), "", is_reaction, (self._answer_field(event, scope),)))
        await self._records.submit(records)

    async def _commit(self, groups: list[list[LoopRecord]]) -> list[None]:
        records = [record for group in groups for record in group]
        arguments: list[str | int] = [_WINDOW_S]
        for record in records:
            arguments += (record.handler, int(record.is_automated), len(record.fields), *record.fields)
        await self._script(keys=[record.key for record in records], args=arguments)
        return [None] * len(groups)

    async def on_echo(self, event: Event, route: Route | None) -> None:
        """Alert if an echo would have run a handler with write access other than the one that wrote the value."""
        if route is None or not route.uses.may:
            return
        (written_by,) = await self._read(event, f"by:{event.property_name}")
        if written_by is not None and written_by.decode() != route.name:
            await self._alert(event, wrote=written_by.decode(), not_run=route.name)

    async def is_loop(self, event: Event, handler: str = "") -> bool:
        """Return whether the event is an automation's reaction to our own writes; alert if so.

        If the event has several handlers, `handler` is the one to run.
        """
        if not is_automated(event):
            return False
        name = event.property_name or ""
        answered, *rounds = await self._read(
            event, self._answer_field(event, handler), *dict.fromkeys((name, _field(name, handler)))
        )
        if answered is None and sum(int(count or 0) for count in rounds) < _MAX_ROUNDS:
            return False
        await self._alert(event)
        return True

    async def _read(self, event: Event, *fields: str) -> list[bytes | None]:
        values: list[bytes | None] = await self._redis.hmget(_redis_key(event), fields)  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and knows lists only
        return values

    def _answer_field(self, event: Event, handler: str = "") -> str:
        # Withheld values are all equal, so their events are distinguished by time.
        value = str(event.occurred_at) if event.is_sensitive else event.property_value or ""
        return _field(f"answered:{event.property_name}:{keyed_hash(self._key, value)}", handler)

    async def _alert(self, event: Event, **handlers: str) -> None:
        """Alert at most once an hour for each property and pair of handlers."""
        name = ":".join(("loop", event.type, event.property_name or "", *handlers.values()))
        if await self._redis.set(keys.alert_once(event.portal_id, name), 1, nx=True, ex=_ALERT_INTERVAL_S):
            fields = {"portal_id": event.portal_id, "event_type": event.type, "property_name": event.property_name}
            await AlertEpisodes(self._redis).report_once(Alert.REWRITE_LOOP, **fields, **handlers)


def _field(name: str, handler: str) -> str:
    """Return the name of a field that belongs to one of several handlers of an event, or to all."""
    return f"{name}@{handler}" if handler else name


def _is_of(event: Event, write: "WriteRecord") -> bool:
    """Return whether a write changed the event's own object."""
    return (write.object_type, write.object_id) == (event.object_type, event.survivor_id)


def _redis_key(event: Event) -> str:
    return keys.rewrite_loops(event.portal_id, event.object_type, event.object_id)


def is_automated(event: Event) -> bool:
    """Return whether an automation, or another app, made the change."""
    return event.kind == "propertyChange" and event.change_source not in _HUMAN_SOURCES
