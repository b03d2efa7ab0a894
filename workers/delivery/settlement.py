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
from spokes.core.delivery import AUDIT_STREAM, QUEUE_NAME, Delivery
from spokes.core.redis import keys
from spokes.core.redis.group_commit import Together
from spokes.core.redis.keys import Command, Word
from spokes.core.redis.outage import Patience
from spokes.core.telemetry.metrics import HANDLER_SECONDS, LAG_SECONDS, OUTCOMES, SETBACKS
from spokes.core.telemetry.sentry import timed
from workers.delivery.lanes import Lane
from workers.delivery.resolution import Verdict

_SETBACKS: Final = frozenset({Outcome.RETRIED, Outcome.PARKED, Outcome.DEAD})
_OUTCOMES: Final[dict[tuple[str, Outcome], Metric]] = {}  # looking a metric up by its labels costs more than counting


class Tally:
    """Outcomes, setbacks, lags, and how long handlers ran."""

    __slots__ = ("_lags", "_outcomes", "_seconds", "_setbacks")

    def __init__(self) -> None:
        self._outcomes: defaultdict[tuple[str, Outcome], int] = defaultdict(int)
        self._setbacks: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._lags: list[float] = []
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def ran(self, handler: str, seconds: float) -> None:
        """Take note of one run of a handler."""
        self._seconds[handler].append(seconds)

    def ended(self, handler: str, verdict: Verdict, occurred_at: int) -> None:
        """Take note of how an event stands now; `occurred_at` is epoch ms."""
        outcome = verdict.outcome
        self._outcomes[handler, outcome] += 1
        if outcome in _SETBACKS:
            # Of an exception that is not ours the class is named, and there is no end of classes.
            self._setbacks[outcome.value, verdict.reason.partition(":")[0]] += 1
        if verdict.delay_s is None:
            self._lags.append(max(0.0, time.time() - occurred_at / 1000))

    def tell(self) -> None:
        """Count all of it, and begin anew."""
        for key, count in self._outcomes.items():
            metric = _OUTCOMES.get(key)
            if metric is None:
                metric = _OUTCOMES[key] = OUTCOMES.labels(key[0], key[1].value)
            metric.inc(count)
        for labels, count in self._setbacks.items():
            SETBACKS.labels(*labels).inc(count)
        for handler, seconds in self._seconds.items():
            HANDLER_SECONDS.labels(handler).observe_all(seconds)
            for one in seconds:
                timed("handler", handler, one)
        LAG_SECONDS.observe_all(self._lags)
        for told in (self._outcomes, self._setbacks, self._seconds, self._lags):
            told.clear()


_SCRIPT: Final = (Path(__file__).parent / "settle.lua").read_text()
_MOST: Final = 500  # bounds how long one transaction holds Redis


class Step(NamedTuple):
    """What belongs together: the events that are settled, the records of it, and the commands that follow from it.

    `hangs_on` names a key and whether it must stand when the step is carried out; else all of it is left out.
    `is_holders` says that it is only for the worker which holds the delivery: it moves events away, and whoever took
    the delivery when our lease had lapsed may be at them. What was done is settled by whoever comes first.
    """

    delivery: Delivery
    event_keys: tuple[str, ...]
    records: Sequence[bytes] = ()
    commands: Sequence[Command] = ()
    hangs_on: tuple[str, bool] | None = None
    is_holders: bool = False

    @property
    def condition(self) -> str:
        """In settle.lua's words."""
        holders = "=" if self.is_holders else ""
        if self.hangs_on is None:
            return holders
        key, stands = self.hangs_on
        return holders + ("+" if stands else "-") + key


class End(NamedTuple):
    """The end of a delivery all of whose events are settled: its job leaves the queue."""

    delivery: Delivery


class Settlement:
    """Group commit for the workers of one process."""

    def __init__(self, redis: Redis, holder: str, patience: Patience) -> None:
        """Settle in the name of `holder`, in which this process holds deliveries, and no other does."""
        self._holder = holder
        self.tally = Tally()  # of what is settled; counted with each transaction
        self._script = redis.register_script(_SCRIPT)
        self._together: Together[Step | End | Lane, bool] = Together(self._carry_out, patience, most=_MOST)

    def step(self, step: Step) -> None:
        """Carry out a step, all of it or nothing, in its turn."""
        self._together.tell(step)

    def give(self, lane: Lane) -> None:
        """Give a lane back after all steps so far, if it still bears our token."""
        self._together.tell(lane)

    def leaving(self) -> list[Lane]:
        """Return the lanes still to be given back: until then they are ours, or another would miss what we did."""
        return [ask for ask in self._together.open() if isinstance(ask, Lane)]

    def end(self, delivery: Delivery, ended: "asyncio.Future[bool] | None" = None) -> asyncio.Future[bool]:
        """End a delivery after all its steps; False, in `ended`, when another worker has a hand in it: it must stay."""
        return self._together.ask(End(delivery), ended)

    async def close(self) -> None:
        """Wait until everything that was asked for is carried out."""
        await self._together.close()

    async def _carry_out(self, asks: list[Step | End | Lane]) -> list[bool]:
        lanes = [ask for ask in asks if isinstance(ask, Lane)]
        words: list[Word] = [keys.MARKS_KEEP_S, self._holder, len(lanes)]
        words += (word for lane in lanes for word in (lane.key, lane.token))
        steps: dict[str, list[Step]] = {}
        ending: dict[str, Delivery] = {}
        deliveries: dict[str, Delivery] = {}
        for ask in asks:
            if isinstance(ask, Lane):
                continue
            deliveries[ask.delivery.id] = ask.delivery
            if isinstance(ask, Step):
                steps.setdefault(ask.delivery.id, []).append(ask)
            else:
                ending[ask.delivery.id] = ask.delivery
        for delivery_id, delivery in deliveries.items():
            mine = steps.get(delivery_id, ())
            words += (delivery_id, keys.settled(delivery.portal_id, delivery_id))
            words += (int(delivery_id in ending), len(mine))
            for step in mine:
                words += (step.condition, len(step.event_keys), *step.event_keys, len(step.records), *step.records)
                words.append(len(step.commands))
                for command in step.commands:
                    words.append(len(command))
                    words += command
        answers = await self._script(keys=[QUEUE_NAME, AUDIT_STREAM], args=words)
        self.tally.tell()
        ended = dict(zip(deliveries, answers, strict=True))
        return [not isinstance(ask, End) or ended[ask.delivery.id] == 1 for ask in asks]
