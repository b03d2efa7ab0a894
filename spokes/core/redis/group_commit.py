"""Calls that share round trips: who asks while one is under way goes with the next. Rule: in the order of asking.

Redis being away is waited out and the call made again, so whatever is carried out must be safe to repeat.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

from spokes.core.redis.outage import RedisOutage, is_outage

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Item, Answer]):
    """One call at a time for everybody who asks."""

    def __init__(
        self,
        commit: Callable[[list[Item]], Awaitable[Sequence[Answer]]],
        outage: RedisOutage,
        *,
        max_weight: int,
        weight: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        """Share calls of `carry_out`, which answers each ask in its place.

        A call takes no further ask once its asks weigh `most`: while Redis is at it, we are to have work of our own.
        """
        self._commit = commit
        self._outage = outage
        self._max_weight = max_weight
        self._weight = weight
        self._waiting: deque[tuple[Item, asyncio.Future[Answer] | None]] = deque()
        self._in_flight: list[tuple[Item, asyncio.Future[Answer] | None]] = []
        self._drain_task: asyncio.Task[None] | None = None

    def pending(self) -> Iterator[Item]:
        """Go through what was asked for and is not carried out yet."""
        for ask, _ in (*self._in_flight, *self._waiting):
            yield ask

    def submit(self, item: Item, future: "asyncio.Future[Answer] | None" = None) -> "asyncio.Future[Answer]":
        """Return the answer to come; `answer` itself, where there is one that waits for it already."""
        future = future or asyncio.get_running_loop().create_future()
        self._append(item, future)
        return future

    def enqueue(self, item: Item) -> None:
        """Ask without waiting for an answer; a later ask is answered after it was carried out."""
        self._append(item, None)

    def _append(self, ask: Item, answer: "asyncio.Future[Answer] | None") -> None:
        self._waiting.append((ask, answer))
        if self._drain_task is None:
            self._drain_task = asyncio.get_running_loop().create_task(self._drain())

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._drain_task is not None:
            await asyncio.wait([self._drain_task])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                group = self._in_flight = self._next_group()
                try:
                    answers = await self._commit_with_retry([ask for ask, _ in group])
                except Exception as error:  # noqa: BLE001 - every waiter must learn of it, whatever it is
                    for _, waiter in group:
                        if waiter is not None and not waiter.done():
                            waiter.set_exception(error)
                            waiter.exception()  # who asked may be gone, and asyncio complains of what nobody saw
                else:
                    for (_, waiter), answer in zip(group, answers, strict=True):
                        if waiter is not None and not waiter.done():
                            waiter.set_result(answer)
        finally:
            self._in_flight = []
            self._drain_task = None

    def _next_group(self) -> list[tuple[Item, asyncio.Future[Answer] | None]]:
        group, weight = [], 0
        while self._waiting and weight < self._max_weight:
            group.append(self._waiting.popleft())
            weight += self._weight(group[-1][0])
        return group

    async def _commit_with_retry(self, asks: list[Item]) -> Sequence[Answer]:
        while True:
            try:
                answers = await self._commit(asks)
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._outage.wait(error)
            else:
                self._outage.mark_available()
                return answers
