"""A stock arq worker with tuned settings, one job per event, and a job function that does nothing."""

import asyncio
import logging
import os
from typing import Any

import arq.worker
import uvloop
from arq.connections import ArqRedis
from arq.worker import Worker, func

from spokes.core.delivery import JOB_NAME, decode, encode
from spokes.core.redis.keys import IN_PROGRESS_KEY_PREFIX, JOB_KEY_PREFIX, JOB_QUEUE, RETRY_KEY_PREFIX


async def process(ctx: dict[str, Any], job: Any) -> None:
    """Do nothing."""


async def main() -> None:
    """Drain the queue until killed."""
    logging.disable()
    # The same queue as for Spokes' workers.
    arq.worker.job_key_prefix = JOB_KEY_PREFIX
    arq.worker.retry_key_prefix = RETRY_KEY_PREFIX
    arq.worker.in_progress_key_prefix = IN_PROGRESS_KEY_PREFIX
    worker = Worker(
        functions=[func(process, name=JOB_NAME)],
        redis_pool=ArqRedis.from_url(os.environ["REDIS_URL"]),
        queue_name=JOB_QUEUE,
        max_jobs=100,
        poll_delay=0.05,
        queue_read_limit=2000,
        keep_result=0,
        job_serializer=encode,
        job_deserializer=decode,
        log_results=False,
    )
    await worker.async_run()


if __name__ == "__main__":
    uvloop.run(main()) if os.environ.get("BENCH_LOOP", "uvloop") == "uvloop" else asyncio.run(main())
