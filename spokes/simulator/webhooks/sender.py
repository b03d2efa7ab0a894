"""The sending side: events in batches, ten requests in flight, five seconds to answer, ten retries.

Rule: every attempt is signed afresh and written down before it leaves. Source: HubSpot's "Webhooks API guide".
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

import orjson

from spokes.simulator.clock import Clock
from spokes.simulator.config import SenderConfig, Target
from spokes.simulator.webhooks.delivery_log import Attempt, Deliveries, SentEvent, State
from spokes.simulator.webhooks.http_sender import Courier
from spokes.simulator.webhooks.retry_schedule import retry_delay_s
from spokes.simulator.webhooks.signing import GENUINE, Manner, sign


class NoTarget(Exception):
    """A request was to be sent at once, and nobody has said where to."""


@dataclass(slots=True)
class _Outbox:
    """Events of one portal that wait for their batch."""

    ready: deque[SentEvent] = field(default_factory=deque)
    in_flight: int = 0
    lingering: asyncio.TimerHandle | None = None


class Sender:
    """Delivers what it is given; without a target, or while held, events wait."""

    def __init__(
        self,
        config: SenderConfig,
        *,
        client_secret: str,
        target: Target | None,
        clock: Clock,
        rng: Random,
        deliveries: Deliveries,
    ) -> None:
        self.config = config
        self.client_secret = client_secret
        self.deliveries = deliveries
        self.peak_in_flight = 0  # the most requests one portal ever had open
        self.skew_ms = 0  # by how much the clock that stamps requests is wrong
        self._target = target
        self._held = False
        self._clock = clock
        self._rng = rng
        self._outboxes: dict[int, _Outbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        self._courier = Courier(clock, timeout_s=config.timeout_s)

    async def open(self) -> None:
        """Be ready to connect."""
        await self._courier.open()

    async def close(self) -> None:
        """Give up what is under way."""
        self.forget()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._courier.close()

    def forget(self) -> None:
        """Drop what waits and what is under way."""
        for outbox in self._outboxes.values():
            if outbox.lingering is not None:
                outbox.lingering.cancel()
        self._outboxes.clear()
        for task in self._tasks:
            task.cancel()

    @property
    def target(self) -> Target | None:
        """Where deliveries go."""
        return self._target

    @target.setter
    def target(self, target: Target | None) -> None:
        self._target = target
        self._pump_all()

    def hold(self) -> None:
        """Let events gather."""
        self._held = True

    def release(self) -> None:
        """Send what gathered, and whatever comes."""
        self._held = False
        self._pump_all()

    def submit(self, portal_id: int, elements: Iterable[object]) -> list[SentEvent]:
        """Put events on their way: batched, retried, some twice if the sender is set so."""
        outbox = self._outboxes.setdefault(portal_id, _Outbox())
        entered: list[SentEvent] = []
        for element in elements:
            entered.append(self.deliveries.enter(portal_id, element))
            if self.config.duplicate_share and self._rng.random() < self.config.duplicate_share:
                entered.append(self.deliveries.enter(portal_id, element))
        if entered:
            self._settled.clear()
            outbox.ready.extend(entered)
            self._linger(portal_id, outbox)
        return entered

    async def send(
        self, elements: Sequence[object] | bytes, *, portal_id: int = 0, manner: Manner = GENUINE
    ) -> Attempt:
        """Send one request now and only once: any body, signed as HubSpot does or in another `manner`.

        Raises:
            NoTarget: nobody said where to.
        """
        body = elements if isinstance(elements, bytes) else orjson.dumps(elements)
        attempt = self.deliveries.begin(portal_id, self._clock.now_ms(), ())
        await self._post(attempt, body, manner)
        return attempt

    async def drained(self, timeout_s: float = 60.0) -> None:
        """Wait until every event is acknowledged or lost.

        Raises:
            TimeoutError: some are still pending.
        """
        async with asyncio.timeout(timeout_s):
            while self.deliveries.counts[State.PENDING]:
                await self._settled.wait()

    def _pump_all(self) -> None:
        for portal_id, outbox in self._outboxes.items():
            self._pump(portal_id, outbox)

    def _linger(self, portal_id: int, outbox: _Outbox) -> None:
        """Send full batches at once, and the rest when it has waited for company."""
        if len(outbox.ready) >= self.config.max_batch:
            self._pump(portal_id, outbox, full_only=True)
        if outbox.ready and outbox.lingering is None:
            loop = asyncio.get_running_loop()
            outbox.lingering = loop.call_later(self.config.linger_s, self._lingered, portal_id, outbox)

    def _lingered(self, portal_id: int, outbox: _Outbox) -> None:
        outbox.lingering = None
        self._pump(portal_id, outbox)

    def _pump(self, portal_id: int, outbox: _Outbox, *, full_only: bool = False) -> None:
        """Start as many requests as may be in flight."""
        least = self.config.max_batch if full_only else 1
        while not self._held and self._target is not None and outbox.in_flight < self.config.max_in_flight:
            if len(outbox.ready) < least:
                return
            batch = [outbox.ready.popleft() for _ in range(min(len(outbox.ready), self.config.max_batch))]
            if self.config.shuffle:
                self._rng.shuffle(batch)
            outbox.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, outbox.in_flight)
            self._start(self._deliver(portal_id, outbox, batch))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, portal_id: int, outbox: _Outbox, batch: list[SentEvent]) -> None:
        attempt = self.deliveries.begin(portal_id, self._clock.now_ms(), batch)
        try:
            await self._post(attempt, orjson.dumps([event.on_the_wire() for event in batch]), GENUINE)
        finally:
            outbox.in_flight -= 1
        if attempt.acknowledged:
            self._settle(batch, State.ACKNOWLEDGED)
        else:
            self._retry(portal_id, outbox, batch)
        self._pump(portal_id, outbox)

    def _retry(self, portal_id: int, outbox: _Outbox, failed: list[SentEvent]) -> None:
        """Plan the next attempt of each event, in one batch or in two; events on their last retry are lost."""
        self._settle([event for event in failed if event.retries >= self.config.max_retries], State.LOST)
        again = [event for event in failed if event.state is State.PENDING]
        for event in again:
            event.retries += 1
        cut = len(again) // 2 if self._rng.random() < self.config.split_share else 0
        for part in (again[:cut], again[cut:]):
            if part:
                delay_s = retry_delay_s(max(event.retries for event in part), self._rng)
                self._start(self._come_back(portal_id, outbox, part, delay_s))

    async def _come_back(self, portal_id: int, outbox: _Outbox, events: list[SentEvent], delay_s: float) -> None:
        await self._clock.sleep_s(delay_s)
        outbox.ready.extend(events)
        self._linger(portal_id, outbox)

    def _settle(self, events: Iterable[SentEvent], state: State) -> None:
        for event in events:
            self.deliveries.settle(event, state, self._clock.now_ms())
        if not self.deliveries.counts[State.PENDING]:
            self._settled.set()

    async def _post(self, attempt: Attempt, body: bytes, manner: Manner) -> None:
        if self._target is None:
            raise NoTarget
        signed = sign(
            secret=self.client_secret,
            uri=self._target.public_url,
            body=body,
            now_ms=attempt.at_ms + self.skew_ms,
            manner=manner,
        )
        await self._courier.carry(signed, self._target, attempt)
