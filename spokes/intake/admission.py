"""Admission: drop known events, queue the others, and write the head records, in one atomic script call.

The events of one priority class become one arq job, in the queue of that class. Requests that are committed in one call
are folded into one job; each still reports its own duplicates.

When `admit` returns, its deliveries survive the death of every process of ours. When it raises, either nothing of them
was stored, or all of it was and HubSpot's next attempt is dropped as known.
"""

from asyncio import Future
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from msgspec import Raw
from msgspec.json import Encoder
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from spokes.audit.stream import encode as encode_record
from spokes.audit.stream import encode_fields
from spokes.core import clock
from spokes.core.delivery import arq_job, compress, job_argument
from spokes.core.errors import QueueUnavailable
from spokes.core.priority import PRIORITIES, Priority
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.keys import AUDIT_STREAM, JOB_KEY_PREFIX, QUEUES, WAKE_CHANNEL, WRITE_PROBE
from spokes.core.redis.scripts import read_script
from spokes.intake.classification import ClassifiedDelivery
from spokes.intake.dedupe import marks as dedupe_marks
from spokes.intake.dedupe.redeliveries import duplicate_records, is_recorded, redelivery_id
from spokes.intake.dedupe.redelivery_counts import RedeliveryCounts
from spokes.intake.folding import PendingRequest, StoredTogether, fold, pending_request
from spokes.intake.redis_lines import CommandArgs, RedisLines

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from spokes.core.redis.pool import RedisPool

_FSYNC_TIMEOUT_MS: Final = 3_000  # HubSpot waits 5 s; an append-only file is written every second at the latest
_MARKS_REFUSED: Final = -1  # in place of the index of a known event: a key of the marks holds another type of value
_KEYS: Final = (*(QUEUES[priority] for priority in PRIORITIES), AUDIT_STREAM, WAKE_CHANNEL)
_QUEUE_KEY: Final[Mapping[Priority, int]] = {priority: at for at, priority in enumerate(PRIORITIES, 1)}  # in _KEYS
_SCRIPT: Final = read_script(__file__, "dedupe/mark_sets.lua", "admission.lua")
_ENCODE_JSON: Final = Encoder().encode
# A full group is sent at once, up to six calls at a time: it gains nothing by waiting for more deliveries, and Redis
# can work on it already. Smaller groups are sent one after the other: with two at a time, groups were half as large
# and cost a fifth more.
_FULL_GROUP_EVENTS: Final = 80
_MAX_CALLS: Final = 6
_OTHER_CONNECTIONS: Final = 3  # of a web process: one for counts of redeliveries, the others not for admission
_MAX_GROUP_EVENTS: Final = 200  # a group of this size takes no more deliveries: no script may block Redis for long


async def probe_admission(redis: Redis) -> None:
    """Prove that Redis admits deliveries: run every command of the admission script on a key that is deleted again.

    Raises:
        RedisError, OSError, TimeoutError: Redis does not answer, or refuses a command; it would refuse deliveries too.
    """
    await redis.register_script(_SCRIPT)(keys=[*_KEYS, WRITE_PROBE], args=[clock.now_ms(), 0])


class Answer(NamedTuple):
    """The id under which a request's delivery is stored, "" if not; then `known` are the indexes of known events."""

    delivery_id: str
    known: Sequence[int] = ()


class Admission:
    """Admits requests; those that arrive during a call share the next one, and each waits for its own result."""

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
        self._redeliveries = RedeliveryCounts(self._lines)
        self.durable = durable
        self._redis = redis
        self._dedupe_ttl_s = dedupe_ttl_s
        self._sha = ""
        self._group_commit = GroupCommit[PendingRequest, Answer](
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
        (admitted,) = await self._admit_portal([delivery], "")
        return admitted

    async def admit_together(
        self, deliveries: Sequence[ClassifiedDelivery], request_id: str = ""
    ) -> list[ClassifiedDelivery]:
        """Store the deliveries of one request; return them without the events that were already known.

        Those of one portal are stored together or not at all, also those of different priority classes. If the request
        has an id, it may be stored in the delivery of another request; the delivery returned then has that one's id.

        Raises:
            QueueUnavailable: see `admit`.
        """
        if len(deliveries) == 1:
            return await self._admit_portal(list(deliveries), request_id)
        by_portal: dict[int, list[ClassifiedDelivery]] = {}
        for delivery in deliveries:
            by_portal.setdefault(delivery.portal_id, []).append(delivery)
        admitted = [await self._admit_portal(group, request_id) for group in by_portal.values()]
        return [delivery for group in admitted for delivery in group]

    async def close(self) -> None:
        """Wait for the calls in flight, then release the connections."""
        await self._group_commit.close()
        await self._redeliveries.close()
        await self._lines.close()

    def start(self, deliveries: Sequence[ClassifiedDelivery], request_id: str, refusals: int = 0) -> Future[Answer]:
        """Add the deliveries of one request and portal to the next call; `finish` takes the answer."""
        # Serialised here and not with its group: a delivery that cannot be serialised fails its own request only.
        return self._group_commit.submit(pending_request(deliveries, request_id, refusals))

    async def finish(
        self, deliveries: list[ClassifiedDelivery], request_id: str, answer: Answer
    ) -> list[ClassifiedDelivery]:
        """Return the deliveries as they are stored; as long as `answer` refuses them, try again without known events.

        Raises:
            QueueUnavailable: see `admit`.
        """
        refusals = 0
        while not answer.delivery_id:
            if _MARKS_REFUSED in answer.known:
                raise QueueUnavailable("dedupe_marks_refused")
            if answer.known:
                deliveries = await self._count_redelivery(_without_known(deliveries, answer.known))
                if not any(delivery.events or delivery.duplicates for delivery in deliveries):
                    return deliveries
            refusals += 1
            answer = await self.start(deliveries, request_id, refusals)
        deliveries[0].id = answer.delivery_id
        return deliveries

    async def _admit_portal(self, deliveries: list[ClassifiedDelivery], request_id: str) -> list[ClassifiedDelivery]:
        if deliveries[0].malformed and not any(delivery.events for delivery in deliveries):
            deliveries = await self._count_redelivery(deliveries)  # it has no event by which it could be known
            if not any(delivery.records for delivery in deliveries):
                return deliveries
        return await self.finish(deliveries, request_id, await self.start(deliveries, request_id))

    async def _count_redelivery(self, deliveries: list[ClassifiedDelivery]) -> list[ClassifiedDelivery]:
        """Count a request that has come before; return its deliveries with the count, or with nothing to record.

        Raises:
            QueueUnavailable: Redis did not confirm.
        """
        times = await self._redeliveries.count(deliveries[0].portal_id, redelivery_id(deliveries))
        if not is_recorded(times):
            return [delivery.unrecorded() for delivery in deliveries]
        return [replace(delivery, times=times) for delivery in deliveries]

    async def _commit(self, requests: list[PendingRequest]) -> list[Answer]:
        now_ms = clock.now_ms()
        groups = fold(requests)
        args: list[bytes | str | int] = [now_ms, len(groups)]
        for group in groups:
            args += _script_args(group, now_ms, self._dedupe_ttl_s)
        try:
            known_by_group = await self._run_script(args)
        except (RedisError, OSError, TimeoutError) as error:
            raise QueueUnavailable from error
        if len(groups) == len(requests) and not any(known_by_group):
            return [Answer(request.deliveries[0].id) for request in requests]
        answers = {}
        for group, known in zip(groups, known_by_group, strict=True):
            for request, answer in zip(group.requests, _answers(group, known), strict=True):
                answers[id(request)] = answer
        return [answers[id(request)] for request in requests]

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


def _answers(group: StoredTogether, known: Sequence[int]) -> list[Answer]:
    """Return the answers for the requests of a group, whose events at the indexes `known` were known."""
    if not known:
        return [Answer(group.deliveries[0].id)] * len(group.requests)
    if len(group.requests) == 1:
        return [Answer("", known)]
    if _MARKS_REFUSED in known:
        return [Answer("")] * len(group.requests)  # whose marks these are shows when each is stored alone
    return [Answer("", own) for own in group.split(known)]


def _without_known(deliveries: list[ClassifiedDelivery], known: Sequence[int]) -> list[ClassifiedDelivery]:
    """Return deliveries less the events at these indexes, which count over all deliveries."""
    remaining = []
    first = 0
    for delivery in deliveries:
        end = first + len(delivery.events)
        own = [index - first for index in known if first <= index < end]
        remaining.append(delivery.without(own) if own else delivery)
        first = end
    return remaining


def _script_args(group: StoredTogether, now_ms: int, dedupe_ttl_s: int) -> list[bytes | str | int]:
    """Return the script's arguments for one group, as the header of admission.lua lists them.

    Args:
        group: of one portal.
        now_ms: epoch ms.
        dedupe_ttl_s: how long events are remembered at least, in seconds.
    """
    jobs: list[bytes | str | int] = []
    records: list[bytes | str | int] = []
    for delivery, entries in zip(group.deliveries, group.entries, strict=True):
        if delivery.events:
            payload = _payload(delivery, entries, now_ms)
            jobs += (delivery.id, JOB_KEY_PREFIX + delivery.id, payload, _QUEUE_KEY[delivery.priority])
        records += (encode_fields(delivery.head()), *map(encode_record, delivery.records))
        records += map(encode_record, duplicate_records(delivery))
    portal_id = group.deliveries[0].portal_id
    marks = dedupe_marks.script_args(portal_id, group.events, now_ms=now_ms, dedupe_ttl_s=dedupe_ttl_s)
    return [len(jobs) // 4, *jobs, len(records), *records, *marks]


def _payload(delivery: ClassifiedDelivery, entries: bytes, now_ms: int) -> bytes:
    argument = job_argument(
        delivery.id, delivery.portal_id, delivery.received_at, Raw(entries),
        priority=delivery.priority, intake=delivery.intake,
    )  # fmt: skip
    return compress(_ENCODE_JSON(arq_job(argument, now_ms)))
