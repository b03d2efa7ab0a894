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
from spokes.simulator.webhooks.delivery_log import Attempt, DeliveryLog, DeliveryState, SentEvent
from spokes.simulator.webhooks.http_sender import HttpSender
from spokes.simulator.webhooks.retry_schedule import retry_delay_s
from spokes.simulator.webhooks.signing import GENUINE, SigningVariant, sign


class NoTarget(Exception):
    """A request was to be sent at once, and nobody has said where to."""


@dataclass(slots=True)
class _Outbox:
    """Events of one portal that wait for their batch."""

    ready: deque[SentEvent] = field(default_factory=deque)
    in_flight: int = 0
    linger_timer: asyncio.TimerHandle | None = None


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
        deliveries: DeliveryLog,
    ) -> None:
        self.config = config
        self.client_secret = client_secret
        self.deliveries = deliveries
        self.peak_in_flight = 0  # the most requests one portal ever had open
        self.clock_skew_ms = 0  # by how much the clock that stamps requests is wrong
        self._target = target
        self._is_held = False
        self._clock = clock
        self._rng = rng
        self._outboxes: dict[int, _Outbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_finished = asyncio.Event()
        self._http_sender = HttpSender(clock, timeout_s=config.timeout_s)

    async def open(self) -> None:
        """Be ready to connect."""
        await self._http_sender.open()

    async def close(self) -> None:
        """Give up what is under way."""
        self.discard_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http_sender.close()

    def discard_all(self) -> None:
        """Drop what waits and what is under way."""
        for outbox in self._outboxes.values():
            if outbox.linger_timer is not None:
                outbox.linger_timer.cancel()
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
        self._is_held = True

    def release(self) -> None:
        """Send what gathered, and whatever comes."""
        self._is_held = False
        self._pump_all()

    def submit(self, portal_id: int, elements: Iterable[object]) -> list[SentEvent]:
        """Put events on their way: batched, retried, some twice if the sender is set so."""
        outbox = self._outboxes.setdefault(portal_id, _Outbox())
        entered: list[SentEvent] = []
        for element in elements:
            entered.append(self.deliveries.add_event(portal_id, element))
            if self.config.duplicate_share and self._rng.random() < self.config.duplicate_share:
                entered.append(self.deliveries.add_event(portal_id, element))
        if entered:
            self._all_finished.clear()
            outbox.ready.extend(entered)
            self._linger(portal_id, outbox)
        return entered

    async def send(
        self, elements: Sequence[object] | bytes, *, portal_id: int = 0, variant: SigningVariant = GENUINE
    ) -> Attempt:
        """Send one request now and only once: any body, signed as HubSpot does or in another `manner`.

        Raises:
            NoTarget: nobody said where to.
        """
        body = elements if isinstance(elements, bytes) else orjson.dumps(elements)
        attempt = self.deliveries.start_attempt(portal_id, self._clock.now_ms(), ())
        await self._post(attempt, body, variant)
        return attempt

    async def wait_until_drained(self, timeout_s: float = 60.0) -> None:
        """Wait until every event is acknowledged or lost.

        Raises:
            TimeoutError: some are still pending.
        """
        async with asyncio.timeout(timeout_s):
            while self.deliveries.counts[DeliveryState.PENDING]:
                await self._all_finished.wait()

    def _pump_all(self) -> None:
        for portal_id, outbox in self._outboxes.items():
            self._pump(portal_id, outbox)

    def _linger(self, portal_id: int, outbox: _Outbox) -> None:
        """Send full batches at once, and the rest when it has waited for company."""
        if len(outbox.ready) >= self.config.max_batch:
            self._pump(portal_id, outbox, full_only=True)
        if outbox.ready and outbox.linger_timer is None:
            loop = asyncio.get_running_loop()
            outbox.linger_timer = loop.call_later(self.config.linger_s, self._linger_elapsed, portal_id, outbox)

    def _linger_elapsed(self, portal_id: int, outbox: _Outbox) -> None:
        outbox.linger_timer = None
        self._pump(portal_id, outbox)

    def _pump(self, portal_id: int, outbox: _Outbox, *, full_only: bool = False) -> None:
        """Start as many requests as may be in flight."""
        least = self.config.max_batch if full_only else 1
        while not self._is_held and self._target is not None and outbox.in_flight < self.config.max_in_flight:
            if len(outbox.ready) < least:
                return
            batch = [outbox.ready.popleft() for _ in range(min(len(outbox.ready), self.config.max_batch))]
            if self.config.shuffle:
                self._rng.shuffle(batch)
            outbox.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, outbox.in_flight)
            self._start_task(self._deliver(portal_id, outbox, batch))

    def _start_task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, portal_id: int, outbox: _Outbox, batch: list[SentEvent]) -> None:
        attempt = self.deliveries.start_attempt(portal_id, self._clock.now_ms(), batch)
        try:
            await self._post(attempt, orjson.dumps([event.wire_element() for event in batch]), GENUINE)
        finally:
            outbox.in_flight -= 1
        if attempt.acknowledged:
            self._finish(batch, DeliveryState.ACKNOWLEDGED)
        else:
            self._retry(portal_id, outbox, batch)
        self._pump(portal_id, outbox)

    def _retry(self, portal_id: int, outbox: _Outbox, failed: list[SentEvent]) -> None:
        """Plan the next attempt of each event, in one batch or in two; events on their last retry are lost."""
        self._finish([event for event in failed if event.retries >= self.config.max_retries], DeliveryState.LOST)
        again = [event for event in failed if event.state is DeliveryState.PENDING]
        for event in again:
            event.retries += 1
        cut = len(again) // 2 if self._rng.random() < self.config.split_share else 0
        for part in (again[:cut], again[cut:]):
            if part:
                delay_s = retry_delay_s(max(event.retries for event in part), self._rng)
                self._start_task(self._requeue_after(portal_id, outbox, part, delay_s))

    async def _requeue_after(self, portal_id: int, outbox: _Outbox, events: list[SentEvent], delay_s: float) -> None:
        await self._clock.sleep_s(delay_s)
        outbox.ready.extend(events)
        self._linger(portal_id, outbox)

    def _finish(self, events: Iterable[SentEvent], state: DeliveryState) -> None:
        for event in events:
            self.deliveries.finish_event(event, state, self._clock.now_ms())
        if not self.deliveries.counts[DeliveryState.PENDING]:
            self._all_finished.set()

    async def _post(self, attempt: Attempt, body: bytes, variant: SigningVariant) -> None:
        if self._target is None:
            raise NoTarget
        signed = sign(
            secret=self.client_secret,
            uri=self._target.public_url,
            body=body,
            now_ms=attempt.at_ms + self.clock_skew_ms,
            variant=variant,
        )
        await self._http_sender.send(signed, self._target, attempt)
