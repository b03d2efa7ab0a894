"""Admission: one atomic step into Redis that drops known events, queues the rest as one arq job and writes the head.

Rule: when `admit` returns, the delivery survives the death of every process of ours; when it raises, nothing of it was
stored, or all of it was and the sender's next try is dropped as known.
"""

import asyncio
from collections import deque
from itertools import repeat
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
from spokes.intake import dedupe_marks as marks
from spokes.intake.classification import ClassifiedDelivery
from spokes.intake.redis_lines import CommandArgs, RedisLines

if TYPE_CHECKING:
    from collections.abc import Awaitable

_FSYNC_TIMEOUT_MS: Final = (
    3_000  # HubSpot waits five seconds; an append-only file is written every second at the latest
)
_KEYS: Final = (JOB_QUEUE, AUDIT_STREAM, WAKE_CHANNEL)
_SCRIPT: Final = (Path(__file__).parent / "admission.lua").read_text()
_ENCODE_JSON: Final = Encoder().encode  # of both kinds of elements
_MAX_PARTIAL_CALLS: Final = 1  # of groups that are not full: with two, they are half as large and cost a fifth more
_FULL_GROUP_EVENTS: Final = 80  # a group of so many gains nothing by waiting for more, and Redis works on it meanwhile
_MAX_CALLS: Final = 6
_MAX_GROUP_EVENTS: Final = (
    200  # a group takes no further delivery beyond this, so that one script never holds Redis long
)


class PendingDelivery(NamedTuple):
    """An arrival in the words of the script, and where its request waits for the answer."""

    args: list[bytes | str | int]
    event_count: int
    known: asyncio.Future[list[int]]


class Admission:
    """Group commit: arrivals that come while a call is under way share the next; each waits for its own answer."""

    def __init__(self, redis: Redis, *, dedupe_ttl_s: int, durable: bool = False, timeout_s: float = 5.0) -> None:
        """Admit into `redis`.

        Args:
            redis: whose connections are used; it stays the caller's to close, after us.
            keep_s: how long events are remembered at least, in seconds.
            durable: whether to wait until the group is on Redis' disk, too; see spokes.core.redis.durability.
            timeout_s: how long a call may take, in seconds.
        """
        self._lines = RedisLines(redis.connection_pool, timeout_s=timeout_s + durable * _FSYNC_TIMEOUT_MS / 1000)
        self.durable = durable
        self._redis = redis
        self._dedupe_ttl_s = dedupe_ttl_s
        self._sha = ""
        self._pending: deque[PendingDelivery] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def admit(self, delivery: ClassifiedDelivery) -> ClassifiedDelivery:
        """Store `arrival`; return it without the events that were already known.

        Raises:
            QueueUnavailable: Redis did not confirm.
        """
        while known := await self._submit(delivery):
            delivery = delivery.without(known)
        return delivery

    async def close(self) -> None:
        """Wait for the calls under way, and let go of the connections."""
        await asyncio.gather(*self._calls)
        await self._lines.close()

    async def _submit(self, delivery: ClassifiedDelivery) -> list[int]:
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        # Put into words here and not with its group, so that what cannot be is the trouble of this request alone.
        words = _script_args(delivery, clock.now_ms(), self._dedupe_ttl_s)
        self._pending.append(PendingDelivery(words, len(delivery.keys), answer))
        if len(self._calls) < (_MAX_CALLS if self._has_full_group() else _MAX_PARTIAL_CALLS):
            call = asyncio.create_task(self._drain())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return await answer

    def _has_full_group(self) -> bool:
        """Whether as many events are waiting as make a group."""
        events = 0
        for waiting in self._pending:
            events += waiting.event_count
            if events >= _FULL_GROUP_EVENTS:
                return True
        return False

    async def _drain(self) -> None:
        await self._send_all()
        # At once, and not only when its callbacks run: what is to be sent in between would find nobody to send it.
        self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _send_all(self) -> None:
        while True:
            if not self._has_full_group():
                await asyncio.sleep(0)  # requests that came in this turn of the loop go along
            if not (group := self._next_group()):
                return
            try:
                known = await self._call([waiting.args for waiting in group])
            except Exception as error:  # noqa: BLE001 - whatever it is: nobody may wait for an answer for ever
                reason = QueueUnavailable() if isinstance(error, RedisError | OSError | TimeoutError) else error
                for waiting in group:
                    if not waiting.known.done():  # the request that waited for it may be gone
                        waiting.known.set_exception(reason)
            else:
                for waiting, places in zip(group, known, strict=True):
                    if not waiting.known.done():
                        waiting.known.set_result(places)

    def _next_group(self) -> list[PendingDelivery]:
        group, events = [], 0
        while self._pending and events < _MAX_GROUP_EVENTS:
            group.append(self._pending.popleft())
            events += group[-1].event_count
        return group

    async def _send(self, words: list[bytes | str | int]) -> list[list[int]]:
        waits: list[CommandArgs] = [("WAITAOF", 1, 0, _FSYNC_TIMEOUT_MS)] if self.durable else []
        answer, *written = await self._lines.call(words, *waits)
        if written and not cast("list[int]", written[0])[0]:
            raise QueueUnavailable("disk_too_slow")
        return cast("list[list[int]]", answer)

    async def _load_script(self) -> str:
        return str(await cast("Awaitable[str]", self._redis.script_load(_SCRIPT)))

    async def _call(self, group: list[list[bytes | str | int]]) -> list[list[int]]:
        arguments: list[bytes | str | int] = [clock.now_ms(), len(group)]
        for words in group:
            arguments += words
        for _ in range(2):
            try:
                if not self._sha:
                    self._sha = await self._load_script()
                return await self._send(["EVALSHA", self._sha, len(_KEYS), *_KEYS, *arguments])
            except NoScriptError:  # Redis was restarted and has forgotten its scripts; nothing was written
                self._sha = ""
        raise QueueUnavailable


def _script_args(delivery: ClassifiedDelivery, now_ms: int, dedupe_ttl_s: int) -> list[bytes | str | int]:
    """The script's arguments for one arrival; admission.lua names them."""
    keys = delivery.keys
    payload = b""
    if keys:
        events = [*zip(keys, repeat(0), delivery.elements)]
        told = job_argument(delivery.id, delivery.portal_id, delivery.received_at, events)
        payload = compress(_ENCODE_JSON(arq_job(told, now_ms)))
    records = [encode_fields(delivery.head()), *map(encode_record, delivery.records)]
    known = marks.script_args(delivery.portal_id, keys, delivery.times, now_ms=now_ms, dedupe_ttl_s=dedupe_ttl_s)
    return [delivery.id, JOB_KEY_PREFIX + delivery.id, payload, len(records), *records, *known]
