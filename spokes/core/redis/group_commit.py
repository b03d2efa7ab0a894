"""Group commit: items submitted while a call is under way share the next one.

Settlement, lanes, admission and the own-write ledger each send their script or pipeline through one `GroupCommit`, so
that Redis is called per group of items and not per item.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, Generic, TypeAlias, TypeVar, cast

from redis.exceptions import RedisError

from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.outage import RedisOutage

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_Submission: TypeAlias = "tuple[Item, int, asyncio.Future[Answer] | None]"  # with its weight
_MAX_GATHERED: Final = 20  # iterations of the event loop in which a group grows


class GroupCommit(Generic[Item, Answer]):
    """Commits items in groups, in the order in which they were added."""

    def __init__(
        self,
        commit: Callable[[list[Item]], Awaitable[Sequence[Answer]]],
        *,
        max_weight: int,
        weight: Callable[[Item], int] | None = None,
        full_weight: int | None = None,
        max_calls: int = 1,
        gathers: bool = False,
        outage: RedisOutage | None = None,
        name: str = "",
        on_refused: Callable[[Item, Exception], None] | None = None,
    ) -> None:
        """Send items to `commit`.

        Args:
            commit: sends one group and returns one answer for each of its items, in their order.
            max_weight: a group that weighs this much takes no further item, so that one call never holds Redis long.
            weight: returns the weight of an item; by default, each weighs 1.
            full_weight: waiting items that weigh this much are committed at once, concurrently with other calls. A
                lighter group waits for the current call, and until the end of the event loop's iteration. By default,
                every group waits for the current call.
            max_calls: limit of concurrent calls while groups are full; 1 keeps items in order.
            gathers: a group leaves after the first iteration of the event loop that adds no item to it. The results of
                a batch reach their handlers in several iterations; what the handlers submit then shares one call.
            outage: waits until Redis is back and repeats the call, so `commit` must be safe to repeat. A group
                that fails for another reason is committed item by item, and only the submitters of the items that fail
                receive the error. Without it, all submitters of the group receive it.
            name: of this task in log lines about an outage.
            on_refused: called with an enqueued item that was not committed, and the error.
        """
        self._on_refused = on_refused
        self._name = name
        self._commit = commit
        self._max_weight = max_weight
        self._weight = weight
        self._full_weight = full_weight
        self._max_calls = max_calls
        self._gathers = gathers
        self._outage = outage
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Submission[Item, Answer]] = deque()
        self._waiting_weight = 0
        self._calls: dict[asyncio.Task[None], list[_Submission[Item, Answer]]] = {}  # the group each task commits

    def submit(self, item: Item, answer: "asyncio.Future[Answer] | None" = None) -> "asyncio.Future[Answer]":
        """Add an item; return the future of its answer, which is `answer` if the caller has made one already."""
        future = answer or self._running_loop().create_future()
        self.enqueue(item, future)
        return future

    def enqueue(self, item: Item, answer: "asyncio.Future[Answer] | None" = None) -> None:
        """Add an item; its answer is set on `answer` if there is one. Items added later are committed after it."""
        weight = 1 if self._weight is None else self._weight(item)
        self._waiting.append((item, weight, answer))
        self._waiting_weight += weight
        calls = len(self._calls)
        if not calls or (calls < self._max_calls and self._is_full()):
            self._calls[self._running_loop().create_task(self._drain())] = []

    def pending(self) -> Iterator[Item]:
        """Iterate over the items whose commit has not been answered."""
        for group in (*self._calls.values(), self._waiting):
            for item, _, _ in group:
                yield item

    async def close(self) -> None:
        """Wait until every added item is committed."""
        if self._calls:
            await asyncio.wait(self._calls)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return what `asyncio.get_running_loop` returns, which makes a system call."""
        if self._loop is None or not self._loop.is_running():
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _is_full(self) -> bool:
        return self._full_weight is not None and self._waiting_weight >= self._full_weight

    async def _drain(self) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            while True:
                if self._full_weight is not None and not self._is_full():
                    await asyncio.sleep(0)  # items added in this iteration of the event loop join the group
                if self._gathers:
                    await self._gather()
                group = self._calls[task] = self._next_group()
                if not group:
                    return
                await self._commit_group(group)
        finally:
            # Here and not in a done callback, which runs an iteration later: an item added in between would find no
            # task to commit it.
            del self._calls[task]

    async def _gather(self) -> None:
        for _ in range(_MAX_GATHERED):
            count = len(self._waiting)
            if self._waiting_weight >= self._max_weight:
                return
            await asyncio.sleep(0)
            if len(self._waiting) == count:
                return

    def _next_group(self) -> "list[_Submission[Item, Answer]]":
        group: list[_Submission[Item, Answer]] = []
        group_weight = 0
        while self._waiting and group_weight < self._max_weight:
            submission = self._waiting.popleft()
            group.append(submission)
            group_weight += submission[1]
        self._waiting_weight -= group_weight
        return group

    async def _commit_group(self, group: "list[_Submission[Item, Answer]]") -> None:
        items = [item for item, _, _ in group]
        try:
            answers = await (
                self._commit(items) if self._outage is None else self._commit_with_retry(items, self._outage)
            )
            for (_, _, future), answer in zip(group, answers, strict=True):
                if future is not None and not future.done():
                    future.set_result(answer)
        except Exception as error:  # noqa: BLE001 - every submitter must get an answer or the error
            if len(group) > 1 and self._outage is not None:
                for submission in group:  # one bad item costs itself alone
                    await self._commit_group([submission])
                return
            for item, _, future in group:
                if future is None:
                    if self._on_refused is not None:
                        self._on_refused(item, error)
                elif not future.done():
                    future.set_exception(error)
                    future.exception()  # marked as retrieved: the submitter may be gone, and asyncio would log it

    async def _commit_with_retry(self, items: list[Item], outage: RedisOutage) -> Sequence[Answer]:
        while True:
            try:
                answers = await self._commit(items)
            except (RedisError, OSError) as error:
                if classify(error) in {RedisFault.WRONG_TYPE, RedisFault.OTHER}:
                    raise
                await outage.wait(error, self._name)
            else:
                outage.mark_available(self._name)
                return answers
