"""Admission: drop known events, queue the others as one arq job, and write the head record, in one atomic script call.

When `admit` returns, the delivery survives the death of every process of ours. When it raises, either nothing of the
delivery was stored, or all of it was and HubSpot's next attempt is dropped as known.
"""

import asyncio
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from msgspec.json import Encoder
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from spokes.audit.stream import encode as encode_record
from spokes.audit.stream import encode_fields
from spokes.core import clock
from spokes.core.delivery import arq_job, compress, job_argument
from spokes.core.errors import QueueUnavailable
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.keys import AUDIT_STREAM, JOB_KEY_PREFIX, JOB_QUEUE, WAKE_CHANNEL, WRITE_PROBE
from spokes.core.redis.scripts import read_script
from spokes.intake import dedupe_marks
from spokes.intake.classification import ClassifiedDelivery
from spokes.intake.redis_lines import CommandArgs, RedisLines

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from spokes.core.redis.pool import RedisPool

_FSYNC_TIMEOUT_MS: Final = 3_000  # HubSpot waits 5 s; an append-only file is written every second at the latest
_MARKS_REFUSED: Final = -1  # in place of the index of a known event: a key of the marks holds another type of value
_KEYS: Final = (JOB_QUEUE, AUDIT_STREAM, WAKE_CHANNEL)
_SCRIPT: Final = read_script(__file__, "admission.lua")
_ENCODE_JSON: Final = Encoder().encode  # of both kinds of elements
# A full group is sent at once, up to six calls at a time: it gains nothing by waiting for more deliveries, and Redis
# can work on it already. Smaller groups are sent one after the other: with two at a time, groups were half as large
# and cost a fifth more.
_FULL_GROUP_EVENTS: Final = 80
_MAX_CALLS: Final = 6
_OTHER_CONNECTIONS: Final = 2  # of a web process, for everything but admission
_MAX_GROUP_EVENTS: Final = 200  # a group of this size takes no more deliveries: no script may block Redis for long


async def probe_admission(redis: Redis) -> None:
    """Prove that Redis admits deliveries: run every command of the admission script on a key that is deleted again.

    Raises:
        RedisError, OSError, TimeoutError: Redis does not answer, or refuses a command; it would refuse deliveries too.
    """
    await redis.register_script(_SCRIPT)(keys=[*_KEYS, WRITE_PROBE], args=[clock.now_ms(), 0])


class PendingDelivery(NamedTuple):
    """A delivery as script arguments, and its number of events."""

    args: list[bytes | str | int]
    event_count: int


class Admission:
    """Admits deliveries; those that arrive during a call share the next one, and each waits for its own result."""

    def __init__(self, redis: Redis, *, dedupe_ttl_s: int, durable: bool = False, timeout_s: float = 5.0) -> None:
        """Admit into `redis`.

        Args:
            redis: a client of `RedisPool`, which the caller closes after this object; two connections stay free.
            dedupe_ttl_s: how long events are remembered at least, in seconds.
            durable: whether to also wait until a group is on Redis' disk; see spokes.core.redis.durability.
            timeout_s: the longest time one call may take, in seconds, without the wait for the disk.
        """
        pool = cast("RedisPool", redis.connection_pool)
        self._lines = RedisLines(pool, timeout_s=timeout_s + durable * _FSYNC_TIMEOUT_MS / 1000)
        self.durable = durable
        self._redis = redis
        self._dedupe_ttl_s = dedupe_ttl_s
        self._sha = ""
        self._group_commit = GroupCommit[PendingDelivery, list[int]](
            self._commit,
            max_weight=_MAX_GROUP_EVENTS,
            weight=attrgetter("event_count"),
            full_weight=_FULL_GROUP_EVENTS,
            max_calls=max(1, min(_MAX_CALLS, pool.max_connections - _OTHER_CONNECTIONS)),
        )

    async def admit(self, delivery: ClassifiedDelivery) -> ClassifiedDelivery:
        """Store `delivery`; return it without the events that were already known.

        Raises:
            QueueUnavailable: Redis did not confirm, or a key of the dedupe marks holds another type of value.
        """
        while known := await self._submit(delivery):
            if _MARKS_REFUSED in known:
                raise QueueUnavailable("dedupe_marks_refused")
            delivery = delivery.without(known)
        return delivery

    async def close(self) -> None:
        """Wait for the calls in flight, then release the connections."""
        await self._group_commit.close()
        await self._lines.close()

    def _submit(self, delivery: ClassifiedDelivery) -> asyncio.Future[list[int]]:
        """Add `delivery` to the next group; the result is the indexes of its known events."""
        # Serialised here and not with its group: a delivery that cannot be serialised fails its own request only.
        args = _script_args(delivery, clock.now_ms(), self._dedupe_ttl_s)
        return self._group_commit.submit(PendingDelivery(args, len(delivery.events)))

    async def _commit(self, group: list[PendingDelivery]) -> list[list[int]]:
        args: list[bytes | str | int] = [clock.now_ms(), len(group)]
        for pending in group:
            args += pending.args
        try:
            return await self._run_script(args)
        except (RedisError, OSError, TimeoutError) as error:
            raise QueueUnavailable from error

    async def _run_script(self, args: list[bytes | str | int]) -> list[list[int]]:
        for _ in range(2):
            try:
                if not self._sha:
                    self._sha = await self._load_script()
                return await self._call(["EVALSHA", self._sha, len(_KEYS), *_KEYS, *args])
            except NoScriptError:  # Redis restarted and lost its scripts; nothing was written
                self._sha = ""
        raise QueueUnavailable

    async def _load_script(self) -> str:
        return str(await cast("Awaitable[str]", self._redis.script_load(_SCRIPT)))

    async def _call(self, command: list[bytes | str | int]) -> list[list[int]]:
        waits: list[CommandArgs] = [("WAITAOF", 1, 0, _FSYNC_TIMEOUT_MS)] if self.durable else []
        known, *synced = await self._lines.call(command, *waits)
        if synced and not cast("list[int]", synced[0])[0]:
            raise QueueUnavailable("disk_too_slow")
        return cast("list[list[int]]", known)


def _script_args(delivery: ClassifiedDelivery, now_ms: int, dedupe_ttl_s: int) -> list[bytes | str | int]:
    """Return the script's arguments for one delivery, as the header of admission.lua lists them."""
    events = delivery.events
    payload = b""
    if events:
        entries = [(event.key, 0, event.element) for event in events]
        argument = job_argument(delivery.id, delivery.portal_id, delivery.received_at, entries)
        payload = compress(_ENCODE_JSON(arq_job(argument, now_ms)))
    records = [encode_fields(delivery.head()), *map(encode_record, delivery.records)]
    marks = dedupe_marks.script_args(delivery.portal_id, events, now_ms=now_ms, dedupe_ttl_s=dedupe_ttl_s)
    return [delivery.id, JOB_KEY_PREFIX + delivery.id, payload, len(records), *records, *marks]
