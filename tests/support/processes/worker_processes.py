"""Worker processes whose log a test reads, a delivery for them, and what became of it."""

import asyncio
import os
import subprocess
import sys
import time

import pytest
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from tests.support.deployment import ROOT
from tests.support.events import event, recorded
from tests.support.waiting import read_until


class Workers:
    """Worker processes; `end` kills all that were started."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = {**os.environ, **environ}
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, **environ: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers"], cwd=ROOT, env={**self.environ, **environ}, stderr=subprocess.PIPE
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


async def until_ready(process: subprocess.Popen[bytes]) -> None:
    """Read a worker's log up to the line that says that it claims."""
    assert process.stderr is not None
    await asyncio.to_thread(read_until, b"worker_ready", process.stderr)


async def queue(redis: Redis, hubspot: Simulator) -> str:
    record = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"phone": "(415) 555-2671"}, USER)
    raw = event(objectId=int(record.id), occurredAt=record.created_at_ms)
    delivery = Delivery("50112233-1-1", 50112233, record.created_at_ms, (Entry("aa", 0, raw),))
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, delivery.received_at))
    await redis.zadd(JOB_QUEUE, {delivery.id: delivery.received_at})
    return record.id


async def final_outcomes(redis: Redis) -> list[str]:
    records = await recorded(redis)
    return [record.outcome.value for record in records if record.outcome in TERMINAL]


async def until(condition: str, *, redis: Redis, hubspot: Simulator, seconds: float = 90.0) -> None:
    """Wait until HubSpot was "called", or the event is "resolved"."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (condition == "called" and hubspot.requests.find(path="*/contacts/*")) or await final_outcomes(redis):
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"not {condition} within {seconds} s")
