"""Delivery of events: in batches, ten requests in flight, five seconds to respond, ten retries.

Every attempt is logged before it is sent and has its own signature. Source: HubSpot's docs "Webhooks API guide".
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
    """A request was to be sent, but no target is set."""


@dataclass(slots=True)
class _Outbox:
    """Events of one portal that wait to be sent."""

    ready: deque[SentEvent] = field(default_factory=deque)
    in_flight: int = 0
    linger_timer: asyncio.TimerHandle | None = None


class Sender:
    """Delivers submitted events; they wait while there is no target, and between `hold` and `release`."""

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
        self.peak_in_flight = 0  # the most requests one portal had open at a time
        self.clock_skew_ms = 0  # error of the clock that timestamps requests
        self._target = target
        self._is_held = False
        self._clock = clock
        self._rng = rng
        self._outboxes: dict[int, _Outbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_finished = asyncio.Event()
        self._http_sender = HttpSender(clock, timeout_s=config.timeout_s)

    async def open(self) -> None:
        """Open the HTTP client."""
        await self._http_sender.open()

    async def close(self) -> None:
        """Discard all events and close the HTTP client."""
        self.discard_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http_sender.close()

    def discard_all(self) -> None:
        """Discard waiting events and cancel requests in flight."""
        for outbox in self._outboxes.values():
            if outbox.linger_timer is not None:
                outbox.linger_timer.cancel()
        self._outboxes.clear()
        for task in self._tasks:
            task.cancel()

    @property
    def target(self) -> Target | None:
        """The address deliveries are sent to; setting it sends waiting events."""
        return self._target

    @target.setter
    def target(self, target: Target | None) -> None:
        self._target = target
        self._pump_all()

    def hold(self) -> None:
        """Hold back all events until `release`."""
        self._is_held = True

    def release(self) -> None:
        """Send the held events, and all further ones."""
        self._is_held = False
        self._pump_all()

    def submit(self, portal_id: int, elements: Iterable[object]) -> list[SentEvent]:
        """Submit events for delivery in batches with retries; send a `duplicate_share` of them twice."""
        outbox = self._outboxes.setdefault(portal_id, _Outbox())
        submitted: list[SentEvent] = []
        for element in elements:
            submitted.append(self.deliveries.add_event(portal_id, element))
            if self.config.duplicate_share and self._rng.random() < self.config.duplicate_share:
                submitted.append(self.deliveries.add_event(portal_id, element))
        if submitted:
            self._all_finished.clear()
            outbox.ready.extend(submitted)
            self._linger(portal_id, outbox)
        return submitted

    async def send(
        self, elements: Sequence[object] | bytes, *, portal_id: int = 0, variant: SigningVariant = GENUINE
    ) -> Attempt:
        """Send one request at once, without batching or retries: any body, signed according to `variant`.

        Raises:
            NoTarget: no target is set.
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
        """Send full batches at once, and the rest after `linger_s`."""
        if len(outbox.ready) >= self.config.max_batch:
            self._pump(portal_id, outbox, full_only=True)
        if outbox.ready and outbox.linger_timer is None:
            loop = asyncio.get_running_loop()
            outbox.linger_timer = loop.call_later(self.config.linger_s, self._linger_elapsed, portal_id, outbox)

    def _linger_elapsed(self, portal_id: int, outbox: _Outbox) -> None:
        outbox.linger_timer = None
        self._pump(portal_id, outbox)

    def _pump(self, portal_id: int, outbox: _Outbox, *, full_only: bool = False) -> None:
        """Start requests up to `max_in_flight`."""
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
        """Schedule the next attempt of each event, in one batch or in two; events without a retry left are lost."""
        self._finish([event for event in failed if event.retries >= self.config.max_retries], DeliveryState.LOST)
        retried = [event for event in failed if event.state is DeliveryState.PENDING]
        for event in retried:
            event.retries += 1
        cut = len(retried) // 2 if self._rng.random() < self.config.split_share else 0
        for batch in (retried[:cut], retried[cut:]):
            if batch:
                delay_s = retry_delay_s(max(event.retries for event in batch), self._rng)
                self._start_task(self._requeue_after(portal_id, outbox, batch, delay_s))

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
