"""Group commit of settlement steps, lane releases and closed deliveries: settle.lua.

An event is settled in the transaction that records its outcome. Steps are carried out in their order, each completely
or not at all, and never twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from prometheus_client import Counter
from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import report_bad_items
from spokes.audit.records import Outcome
from spokes.core.delivery import Delivery
from spokes.core.redis import keys
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.keys import AUDIT_STREAM, QUEUES, RedisArg, RedisCommand
from spokes.core.redis.outage import RedisOutage
from spokes.core.redis.scripts import ARGUMENTS, read_script
from spokes.core.telemetry.metrics import HANDLER_SECONDS, LAG_SECONDS, OUTCOMES, UNSUCCESSFUL_RUNS
from spokes.core.telemetry.sentry import record_span, sends_spans
from workers.lanes.lanes import Lane
from workers.lanes.resolution import Resolution

if TYPE_CHECKING:
    import asyncio

_SCRIPT: Final = ARGUMENTS + read_script(__file__, "settle.lua")
_MAX_STEPS: Final = 500  # bounds how long one transaction holds Redis
_UNSUCCESSFUL_OUTCOMES: Final = frozenset({Outcome.RETRIED, Outcome.PARKED, Outcome.DEAD})
# By handler and outcome: finding a counter by its labels costs more than incrementing it.
_OUTCOME_COUNTERS: Final[dict[tuple[str, Outcome], Counter]] = {}


class SettlementStep(NamedTuple):
    """What is written together: the settled events, their audit records, and the commands that follow.

    Attributes:
        requires_key: a key, and whether it must exist; otherwise the step is left out.
        requires_lease: whether only the holder of the delivery may carry out the step. It is set on steps that move
            events away: a worker that claimed the delivery after our lease lapsed may be running them. Finished work
            is settled by whichever worker comes first.
    """

    delivery: Delivery
    event_keys: tuple[str, ...]
    records: Sequence[bytes] = ()
    commands: Sequence[RedisCommand] = ()
    requires_key: tuple[str, bool] | None = None
    requires_lease: bool = False

    @property
    def guard(self) -> str:
        """The guards in settle.lua's form: "", "lease", "exists:KEY", "missing:KEY", or "lease+exists:KEY"."""
        lease = "lease" if self.requires_lease else ""
        if self.requires_key is None:
            return lease
        key, must_exist = self.requires_key
        return f"{lease}{'+' if lease else ''}{'exists' if must_exist else 'missing'}:{key}"


class CloseDelivery(NamedTuple):
    """The job of a delivery leaves the queue: all its events are settled."""

    delivery: Delivery


_Request: TypeAlias = SettlementStep | CloseDelivery | Lane  # a lane is to be released


class RunMetrics:
    """Outcomes, lags and handler durations, collected per event and added to the metrics once per transaction."""

    __slots__ = ("_lags_s", "_outcomes", "_seconds", "_unsuccessful")

    def __init__(self) -> None:
        self._outcomes: defaultdict[tuple[str, Outcome], int] = defaultdict(int)
        self._unsuccessful: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._lags_s: list[float] = []
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def handler_ran(self, handler: str, seconds: float) -> None:
        """Count one call of a handler."""
        self._seconds[handler].append(seconds)

    def event_resolved(self, handler: str, resolution: Resolution, lag_ms: int) -> None:
        """Count one resolved event; `lag_ms` is the time since it occurred."""
        outcome = resolution.outcome
        self._outcomes[handler, outcome] += 1
        if outcome in _UNSUCCESSFUL_OUTCOMES:
            # Without the class name that follows the colon for foreign exceptions: a label needs few values.
            self._unsuccessful[outcome.value, resolution.reason.partition(":")[0]] += 1
        if resolution.delay_s is None:
            self._lags_s.append(max(0, lag_ms) / 1000)

    def flush(self) -> None:
        """Add everything collected to the metrics, and clear it."""
        for key, count in self._outcomes.items():
            counter = _OUTCOME_COUNTERS.get(key)
            if counter is None:
                counter = _OUTCOME_COUNTERS[key] = OUTCOMES.labels(key[0], key[1].value)
            counter.inc(count)
        for labels, count in self._unsuccessful.items():
            UNSUCCESSFUL_RUNS.labels(*labels).inc(count)
        for handler, durations in self._seconds.items():
            HANDLER_SECONDS.labels(handler).observe_all(durations)
            for seconds in durations if sends_spans() else ():
                record_span("handler", handler, seconds)
        LAG_SECONDS.observe_all(self._lags_s)
        for collected in (self._outcomes, self._unsuccessful, self._seconds, self._lags_s):
            collected.clear()


class Settlement:
    """The group commit of one worker process."""

    def __init__(self, redis: Redis, holder: str, outage: RedisOutage) -> None:
        """Settle as `holder`, the name in which this process, and no other, holds deliveries."""
        self._holder = holder
        self.metrics = RunMetrics()
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)
        self._group_commit: GroupCommit[_Request, bool] = GroupCommit(
            self._commit, max_weight=_MAX_STEPS, outage=outage, name="settlement", on_refused=self._on_refused
        )
        self._refused: dict[str, Exception] = {}  # by delivery: why a step of it was not carried out

    def add_step(self, step: SettlementStep) -> None:
        """Carry out a step after all earlier ones."""
        self._group_commit.enqueue(step)

    def release_lane(self, lane: Lane) -> None:
        """Release a lane after all earlier steps, if it still holds our token."""
        self._group_commit.enqueue(lane)

    def lanes_being_released(self) -> list[Lane]:
        """Return the lanes that are not released yet.

        Their leases must be renewed: another worker could otherwise start the object before our steps are carried out.
        """
        return [request for request in self._group_commit.pending() if isinstance(request, Lane)]

    def close_delivery(
        self, delivery: Delivery, closed: "asyncio.Future[bool] | None" = None
    ) -> "asyncio.Future[bool]":
        """Close a delivery after all its steps; return a future, `closed` if given.

        Its result is False if another worker holds the delivery, or settled some of its events: it then stays queued.
        It raises, and the delivery stays queued too, if one of its steps was refused.
        """
        return self._group_commit.submit(CloseDelivery(delivery), closed)

    async def close(self) -> None:
        """Wait until everything added is carried out."""
        await self._group_commit.close()

    def _on_refused(self, request: _Request, error: Exception) -> None:
        if isinstance(request, SettlementStep):
            self._refused[request.delivery.id] = error

    async def _commit(self, requests: list[_Request]) -> list[bool]:
        for request in requests if self._refused else ():
            if isinstance(request, CloseDelivery) and (error := self._refused.get(request.delivery.id)):
                if len(requests) == 1:
                    del self._refused[request.delivery.id]
                raise error
        lanes: dict[str, list[str]] = {}  # keys by token
        steps: dict[str, list[SettlementStep]] = {}
        closing: set[str] = set()
        deliveries: dict[str, Delivery] = {}
        for request in requests:
            if isinstance(request, Lane):
                lanes.setdefault(request.token, []).append(request.key)
                continue
            delivery_id = request.delivery.id
            deliveries[delivery_id] = request.delivery
            if isinstance(request, SettlementStep):
                steps.setdefault(delivery_id, []).append(request)
            else:
                closing.add(delivery_id)
        args: list[RedisArg] = [keys.SETTLED_TTL_S, self._holder, len(lanes)]
        for token, lane_keys in lanes.items():
            args += (token, len(lane_keys), *lane_keys)
        for delivery_id, delivery in deliveries.items():
            args += (delivery_id, keys.settled_events(delivery.portal_id, delivery_id), int(delivery_id in closing))
            args += _step_args(steps.get(delivery_id, ()))
        wrong_keys, *answers = await self._script(keys=[*QUEUES.values(), AUDIT_STREAM], args=args)
        self.metrics.flush()
        if wrong_keys:
            await report_bad_items(self._redis, "wrong_type", len(wrong_keys))
        closed = dict(zip(deliveries, answers, strict=True))
        return [not isinstance(request, CloseDelivery) or closed[request.delivery.id] == 1 for request in requests]


def _step_args(steps: Iterable[SettlementStep]) -> list[RedisArg]:
    """Return the arguments of a delivery's steps: most settle one event with one record, and are sent as groups."""
    groups = 0
    args: list[RedisArg] = []
    for is_plain, run in groupby(steps, _is_plain):
        if is_plain:
            plain = [arg for step in run for arg in (step.event_keys[0], step.records[0])]
            groups += 1
            args += (len(plain) // 2, *plain)
            continue
        for step in run:
            groups += 1
            args += (0, step.guard, len(step.event_keys), *step.event_keys, len(step.records), *step.records)
            args.append(len(step.commands))
            for command in step.commands:
                args += (len(command), *command)
    return [groups, *args]


def _is_plain(step: SettlementStep) -> bool:
    """Return whether a step only settles one event with one record."""
    _, event_keys, records, commands, requires_key, requires_lease = step
    return len(event_keys) == len(records) == 1 and not (commands or requires_key or requires_lease)
