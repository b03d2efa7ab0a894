"""Another arq application with arq's default queue on the same Redis database: `OtherWorker` are its worker's settings.

Both applications must run all of their own jobs and none of the other's.
"""

import asyncio
import os
import sys
from random import Random
from typing import Any, ClassVar, Final

from arq import create_pool
from arq.connections import RedisSettings

from chaos.child_process import ChildProcess
from chaos.stack import ProcessBusy, Stack
from spokes.core.redis.keys import DEFAULT_QUEUE
from spokes.simulator.demo import clean_environment

DONE: Final = "other-application:done"  # a set of the numbers of its jobs
_JOBS_INTERVAL_S: Final = 0.1
_EMPTY_TIMEOUT_S: Final = 15.0


async def other_job(context: dict[str, Any], number: int) -> None:
    """Record that a job ran."""
    await context["redis"].sadd(DONE, number)


class OtherWorker:
    """What arq reads from a worker's settings class."""

    functions: ClassVar = [other_job]
    redis_settings = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://"))
    poll_delay = 0.1
    keep_result = 0


async def run_other_application(stack: Stack, duration_s: float, rng: Random) -> None:
    """Run the other application's worker, and queue jobs for it until it has run them all.

    Raises:
        ProcessBusy: jobs of an earlier version of Spokes are in arq's default queue, which it would delete.
    """
    del rng
    async with stack.exclusive("default queue", "valkey"):
        pool = await create_pool(RedisSettings.from_dsn(stack.direct_environment["REDIS_URL"]))
        worker = ChildProcess(
            "other application",
            [sys.executable, "-m", "arq", f"{__name__}.{OtherWorker.__name__}"],
            clean_environment(stack.direct_environment),
            stack.folder,
        )
        try:
            if await pool.zcard(DEFAULT_QUEUE):
                raise ProcessBusy
            stack.processes[worker.name] = worker
            await worker.start()
            for _ in range(1 + round(duration_s / _JOBS_INTERVAL_S)):
                await pool.enqueue_job(other_job.__name__, stack.other_jobs)
                stack.other_jobs += 1
                await asyncio.sleep(_JOBS_INTERVAL_S)
            async with asyncio.timeout(_EMPTY_TIMEOUT_S):
                while await pool.zcard(DEFAULT_QUEUE):  # noqa: ASYNC110 - another process empties it
                    await asyncio.sleep(_JOBS_INTERVAL_S)
        finally:
            await pool.aclose()
            stack.processes.pop(worker.name, None)
            await worker.stop()
