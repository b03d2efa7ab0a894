"""Admission: drop known events, queue the others as one arq job, and write the head record, in one atomic script call.

When `admit` returns, the delivery survives the death of every process of ours. When it raises, either nothing of the
delivery was stored, or all of it was and HubSpot's next attempt is dropped as known.
"""

import asyncio
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from msgspec.json import Encoder
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from spokes.audit.stream import encode as encode_record
from spokes.audit.stream import encode_fields
from spokes.core import clock
from spokes.core.delivery import AUDIT_STREAM, JOB_KEY_PREFIX, JOB_QUEUE, WAKE_CHANNEL, arq_job, compress, job_argument
from spokes.core.errors import QueueUnavailable
from spokes.intake import dedupe_marks
from spokes.intake.classification import ClassifiedDelivery
from spokes.intake.redis_lines import CommandArgs, RedisLines

if TYPE_CHECKING:
    from collections.abc import Awaitable

_FSYNC_TIMEOUT_MS: Final = 3_000  # HubSpot waits 5 s; an append-only file is written every second at the latest
_KEYS: Final = (JOB_QUEUE, AUDIT_STREAM, WAKE_CHANNEL)
_SCRIPT: Final = (Path(__file__).parent / "admission.lua").read_text()
_ENCODE_JSON: Final = Encoder().encode  # of both kinds of elements
_MAX_PARTIAL_CALLS: Final = 1  # in flight, of groups that are not full; with two, groups halve and cost a fifth more
_FULL_GROUP_EVENTS: Final = 80  # a group of this size gains nothing by waiting for more; Redis can work on it already
_MAX_CALLS: Final = 6
_MAX_GROUP_EVENTS: Final = 200  # a group of this size takes no more deliveries: no script may block Redis for long


class PendingDelivery(NamedTuple):
    """A delivery as script arguments, and the future that receives the indexes of its known events."""

    args: list[bytes | str | int]
    event_count: int
    known: asyncio.Future[list[int]]


class Admission:
    """Group commit: deliveries that arrive during a call share the next one; each waits for its own result."""

    def __init__(self, redis: Redis, *, dedupe_ttl_s: int, durable: bool = False, timeout_s: float = 5.0) -> None:
        """Admit into `redis`.

        Args:
            redis: its connections are used; the caller closes it after this object.
            dedupe_ttl_s: how long events are remembered at least, in seconds.
            durable: whether to also wait until a group is on Redis' disk; see spokes.core.redis.durability.
            timeout_s: the longest time one call may take, in seconds, without the wait for the disk.
        """
        self._lines = RedisLines(redis.connection_pool, timeout_s=timeout_s + durable * _FSYNC_TIMEOUT_MS / 1000)
        self.durable = durable
        self._redis = redis
        self._dedupe_ttl_s = dedupe_ttl_s
        self._sha = ""
        self._pending: deque[PendingDelivery] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def admit(self, delivery: ClassifiedDelivery) -> ClassifiedDelivery:
        """Store `delivery`; return it without the events that were already known.

        Raises:
            QueueUnavailable: Redis did not confirm.
        """
        while known := await self._submit(delivery):
            delivery = delivery.without(known)
        return delivery

    async def close(self) -> None:
        """Wait for the calls in flight, then release the connections."""
        await asyncio.gather(*self._calls)
        await self._lines.close()

    async def _submit(self, delivery: ClassifiedDelivery) -> list[int]:
        known: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        # Serialised here and not with its group: a delivery that cannot be serialised fails its own request only.
        args = _script_args(delivery, clock.now_ms(), self._dedupe_ttl_s)
        self._pending.append(PendingDelivery(args, len(delivery.events), known))
        if len(self._calls) < (_MAX_CALLS if self._has_full_group() else _MAX_PARTIAL_CALLS):
            call = asyncio.create_task(self._drain())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return await known

    def _has_full_group(self) -> bool:
        """Return whether enough events are pending for a full group."""
        event_count = 0
        for pending in self._pending:
            event_count += pending.event_count
            if event_count >= _FULL_GROUP_EVENTS:
                return True
        return False

    async def _drain(self) -> None:
        await self._send_groups()
        # Now, and not in a done callback: a delivery submitted in between would start no call and wait for ever.
        self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _send_groups(self) -> None:
        while True:
            if not self._has_full_group():
                await asyncio.sleep(0)  # requests of this turn of the event loop join the group
            if not (group := self._next_group()):
                return
            try:
                known = await self._call([pending.args for pending in group])
            except Exception as error:  # noqa: BLE001 - whatever it is, no request may wait for ever
                reason = QueueUnavailable() if isinstance(error, RedisError | OSError | TimeoutError) else error
                for pending in group:
                    if not pending.known.done():  # its request may have been cancelled
                        pending.known.set_exception(reason)
            else:
                for pending, indexes in zip(group, known, strict=True):
                    if not pending.known.done():
                        pending.known.set_result(indexes)

    def _next_group(self) -> list[PendingDelivery]:
        group, event_count = [], 0
        while self._pending and event_count < _MAX_GROUP_EVENTS:
            group.append(self._pending.popleft())
            event_count += group[-1].event_count
        return group

    async def _send(self, args: list[bytes | str | int]) -> list[list[int]]:
        waits: list[CommandArgs] = [("WAITAOF", 1, 0, _FSYNC_TIMEOUT_MS)] if self.durable else []
        known, *written = await self._lines.call(args, *waits)
        if written and not cast("list[int]", written[0])[0]:
            raise QueueUnavailable("disk_too_slow")
        return cast("list[list[int]]", known)

    async def _load_script(self) -> str:
        return str(await cast("Awaitable[str]", self._redis.script_load(_SCRIPT)))

    async def _call(self, group: list[list[bytes | str | int]]) -> list[list[int]]:
        script_args: list[bytes | str | int] = [clock.now_ms(), len(group)]
        for args in group:
            script_args += args
        for _ in range(2):
            try:
                if not self._sha:
                    self._sha = await self._load_script()
                return await self._send(["EVALSHA", self._sha, len(_KEYS), *_KEYS, *script_args])
            except NoScriptError:  # Redis restarted and lost its scripts; nothing was written
                self._sha = ""
        raise QueueUnavailable


def _script_args(delivery: ClassifiedDelivery, now_ms: int, dedupe_ttl_s: int) -> list[bytes | str | int]:
    """Return the script's arguments for one delivery, as the header of admission.lua lists them."""
    events = delivery.events
    payload = b""
    if events:
        entries = [(event.key, 0, event.element) for event in events]
        argument = job_argument(delivery.id, delivery.portal_id, delivery.received_at, entries)
        payload = compress(_ENCODE_JSON(arq_job(argument, now_ms)))
    records = [encode_fields(delivery.head()), *map(encode_record, delivery.records)]
    marks = dedupe_marks.script_args(
        delivery.portal_id,
        [event.key for event in events],
        [event.occurred_at for event in events],
        now_ms=now_ms,
        dedupe_ttl_s=dedupe_ttl_s,
    )
    return [delivery.id, JOB_KEY_PREFIX + delivery.id, payload, len(records), *records, *marks]
