"""Settle events: what is known of them and the record of it are written in one transaction, or not at all.

Rule: steps that come while a transaction is under way share the next, in their order; none is carried out twice.

What the ends of events add to the metrics. Rule: gathered for each event, counted for many together.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import Counter as Metric
from redis.asyncio import Redis

from spokes.audit.records import Outcome
from spokes.core.delivery import AUDIT_STREAM, JOB_QUEUE, Delivery
from spokes.core.redis import keys
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.keys import RedisArg, RedisCommand
from spokes.core.redis.outage import RedisOutage
from spokes.core.telemetry.metrics import HANDLER_SECONDS, LAG_SECONDS, OUTCOMES, UNSUCCESSFUL_RUNS
from spokes.core.telemetry.sentry import record_span
from workers.delivery.lanes import Lane
from workers.delivery.resolution import Resolution

_UNSUCCESSFUL_OUTCOMES: Final = frozenset({Outcome.RETRIED, Outcome.PARKED, Outcome.DEAD})
_OUTCOME_COUNTERS: Final[
    dict[tuple[str, Outcome], Metric]
] = {}  # looking a metric up by its labels costs more than counting


class RunMetrics:
    """Outcomes, setbacks, lags, and how long handlers ran."""

    __slots__ = ("_lags", "_outcomes", "_seconds", "_unsuccessful")

    def __init__(self) -> None:
        self._outcomes: defaultdict[tuple[str, Outcome], int] = defaultdict(int)
        self._unsuccessful: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._lags: list[float] = []
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def handler_ran(self, handler: str, seconds: float) -> None:
        """Take note of one run of a handler."""
        self._seconds[handler].append(seconds)

    def event_resolved(self, handler: str, resolution: Resolution, occurred_at: int) -> None:
        """Take note of how an event stands now; `occurred_at` is epoch ms."""
        outcome = resolution.outcome
        self._outcomes[handler, outcome] += 1
        if outcome in _UNSUCCESSFUL_OUTCOMES:
            # Of an exception that is not ours the class is named, and there is no end of classes.
            self._unsuccessful[outcome.value, resolution.reason.partition(":")[0]] += 1
        if resolution.delay_s is None:
            self._lags.append(max(0.0, time.time() - occurred_at / 1000))

    def flush(self) -> None:
        """Count all of it, and begin anew."""
        for key, count in self._outcomes.items():
            metric = _OUTCOME_COUNTERS.get(key)
            if metric is None:
                metric = _OUTCOME_COUNTERS[key] = OUTCOMES.labels(key[0], key[1].value)
            metric.inc(count)
        for labels, count in self._unsuccessful.items():
            UNSUCCESSFUL_RUNS.labels(*labels).inc(count)
        for handler, seconds in self._seconds.items():
            HANDLER_SECONDS.labels(handler).observe_all(seconds)
            for one in seconds:
                record_span("handler", handler, one)
        LAG_SECONDS.observe_all(self._lags)
        for told in (self._outcomes, self._unsuccessful, self._seconds, self._lags):
            told.clear()


_SCRIPT: Final = (Path(__file__).parent / "settle.lua").read_text()
_MAX_STEPS: Final = 500  # bounds how long one transaction holds Redis


class SettlementStep(NamedTuple):
    """What belongs together: the events that are settled, the records of it, and the commands that follow from it.

    `hangs_on` names a key and whether it must stand when the step is carried out; else all of it is left out.
    `is_holders` says that it is only for the worker which holds the delivery: it moves events away, and whoever took
    the delivery when our lease had lapsed may be at them. What was done is settled by whoever comes first.
    """

    delivery: Delivery
    event_keys: tuple[str, ...]
    records: Sequence[bytes] = ()
    commands: Sequence[RedisCommand] = ()
    requires_key: tuple[str, bool] | None = None
    requires_lease: bool = False

    @property
    def guard(self) -> str:
        """In settle.lua's words."""
        holders = "=" if self.requires_lease else ""
        if self.requires_key is None:
            return holders
        key, stands = self.requires_key
        return holders + ("+" if stands else "-") + key


class CloseDelivery(NamedTuple):
    """The end of a delivery all of whose events are settled: its job leaves the queue."""

    delivery: Delivery


class Settlement:
    """Group commit for the workers of one process."""

    def __init__(self, redis: Redis, holder: str, outage: RedisOutage) -> None:
        """Settle in the name of `holder`, in which this process holds deliveries, and no other does."""
        self._holder = holder
        self.metrics = RunMetrics()  # of what is settled; counted with each transaction
        self._script = redis.register_script(_SCRIPT)
        self._group_commit: GroupCommit[SettlementStep | CloseDelivery | Lane, bool] = GroupCommit(
            self._commit, max_weight=_MAX_STEPS, outage=outage
        )

    def add_step(self, step: SettlementStep) -> None:
        """Carry out a step, all of it or nothing, in its turn."""
        self._group_commit.enqueue(step)

    def release_lane(self, lane: Lane) -> None:
        """Give a lane back after all steps so far, if it still bears our token."""
        self._group_commit.enqueue(lane)

    def lanes_being_released(self) -> list[Lane]:
        """Return the lanes still to be given back: until then they are ours, or another would miss what we did."""
        return [ask for ask in self._group_commit.pending() if isinstance(ask, Lane)]

    def close_delivery(self, delivery: Delivery, closed: "asyncio.Future[bool] | None" = None) -> asyncio.Future[bool]:
        """End a delivery after all its steps; False, in `ended`, when another worker has a hand in it: it must stay."""
        return self._group_commit.submit(CloseDelivery(delivery), closed)

    async def close(self) -> None:
        """Wait until everything that was asked for is carried out."""
        await self._group_commit.close()

    async def _commit(self, asks: list[SettlementStep | CloseDelivery | Lane]) -> list[bool]:
        lanes = [ask for ask in asks if isinstance(ask, Lane)]
        words: list[RedisArg] = [keys.SETTLED_TTL_S, self._holder, len(lanes)]
        words += (word for lane in lanes for word in (lane.key, lane.token))
        steps: dict[str, list[SettlementStep]] = {}
        ending: dict[str, Delivery] = {}
        deliveries: dict[str, Delivery] = {}
        for ask in asks:
            if isinstance(ask, Lane):
                continue
            deliveries[ask.delivery.id] = ask.delivery
            if isinstance(ask, SettlementStep):
                steps.setdefault(ask.delivery.id, []).append(ask)
            else:
                ending[ask.delivery.id] = ask.delivery
        for delivery_id, delivery in deliveries.items():
            mine = steps.get(delivery_id, ())
            words += (delivery_id, keys.settled_events(delivery.portal_id, delivery_id))
            words += (int(delivery_id in ending), len(mine))
            for step in mine:
                words += (step.guard, len(step.event_keys), *step.event_keys, len(step.records), *step.records)
                words.append(len(step.commands))
                for command in step.commands:
                    words.append(len(command))
                    words += command
        answers = await self._script(keys=[JOB_QUEUE, AUDIT_STREAM], args=words)
        self.metrics.flush()
        ended = dict(zip(deliveries, answers, strict=True))
        return [not isinstance(ask, CloseDelivery) or ended[ask.delivery.id] == 1 for ask in asks]
