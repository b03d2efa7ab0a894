"""Calls that share round trips: who asks while one is under way goes with the next. Rule: in the order of asking.

Redis being away is waited out and the call made again, so whatever is carried out must be safe to repeat.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

from spokes.core.redis.outage import Patience, is_away

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Together(Generic[Ask, Answer]):
    """One call at a time for everybody who asks."""

    def __init__(
        self,
        carry_out: Callable[[list[Ask]], Awaitable[Sequence[Answer]]],
        patience: Patience,
        *,
        most: int,
        weigh: Callable[[Ask], int] = lambda _: 1,
    ) -> None:
        """Share calls of `carry_out`, which answers each ask in its place.

        A call takes no further ask once its asks weigh `most`: while Redis is at it, we are to have work of our own.
        """
        self._carry_out = carry_out
        self._patience = patience
        self._most = most
        self._weigh = weigh
        self._waiting: deque[tuple[Ask, asyncio.Future[Answer] | None]] = deque()
        self._under_way: list[tuple[Ask, asyncio.Future[Answer] | None]] = []
        self._call: asyncio.Task[None] | None = None

    def open(self) -> Iterator[Ask]:
        """Go through what was asked for and is not carried out yet."""
        for ask, _ in (*self._under_way, *self._waiting):
            yield ask

    def ask(self, ask: Ask, answer: "asyncio.Future[Answer] | None" = None) -> "asyncio.Future[Answer]":
        """Return the answer to come; `answer` itself, where there is one that waits for it already."""
        answer = answer or asyncio.get_running_loop().create_future()
        self._enter(ask, answer)
        return answer

    def tell(self, ask: Ask) -> None:
        """Ask without waiting for an answer; a later ask is answered after it was carried out."""
        self._enter(ask, None)

    def _enter(self, ask: Ask, answer: "asyncio.Future[Answer] | None") -> None:
        self._waiting.append((ask, answer))
        if self._call is None:
            self._call = asyncio.get_running_loop().create_task(self._drain())

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._call is not None:
            await asyncio.wait([self._call])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                group = self._under_way = self._next_group()
                try:
                    answers = await self._insist([ask for ask, _ in group])
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
            self._under_way = []
            self._call = None

    def _next_group(self) -> list[tuple[Ask, asyncio.Future[Answer] | None]]:
        group, weight = [], 0
        while self._waiting and weight < self._most:
            group.append(self._waiting.popleft())
            weight += self._weigh(group[-1][0])
        return group

    async def _insist(self, asks: list[Ask]) -> Sequence[Answer]:
        while True:
            try:
                answers = await self._carry_out(asks)
            except Exception as error:
                if not is_away(error):
                    raise
                await self._patience.wait(error)
            else:
                self._patience.answered()
                return answers
