"""Settle events: what is known of them and the record of it are written in one transaction, or not at all.

Rule: steps that arrive while a transaction is under way share the next; a step is settled when `settle` returns.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

Step = Callable[[Pipeline], None]  # queues the commands that belong together

_GROUP_STEPS = 200  # bounds how long one transaction holds Redis


class Settlement:
    """Group commit for the workers of one process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: deque[tuple[Step, asyncio.Future[None]]] = deque()
        self._call: asyncio.Task[None] | None = None

    async def settle(self, step: Step) -> None:
        """Carry out `step`, all of it or nothing.

        Raises:
            RedisError, OSError: Redis did not confirm; the step may or may not have been carried out.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((step, done))
        if self._call is None:
            self._call = asyncio.create_task(self._drain())
        await done

    async def _drain(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP_STEPS))]
                try:
                    async with self._redis.pipeline(transaction=True) as pipeline:
                        for step, _ in group:
                            step(pipeline)
                        await pipeline.execute()
                except Exception as error:  # noqa: BLE001 - every waiter must learn of it, whatever it is
                    for _, done in group:
                        if not done.done():
                            done.set_exception(error)
                else:
                    for _, done in group:
                        if not done.done():
                            done.set_result(None)
        finally:
            self._call = None
