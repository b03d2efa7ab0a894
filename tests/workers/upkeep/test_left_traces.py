"""workers.upkeep.left_traces: the jobs and objects of a worker that was killed go on at once."""

import asyncio
import sys

import pytest
from redis.asyncio import Redis

from spokes.core.redis import keys
from spokes.core.settings import Settings
from tests.support.deployment import ROOT
from tests.workers.harness import PORTAL, Harness, change
from workers.upkeep.left_traces import LeftTraces, lanes_of_job

_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from workers.crash_trace import CrashTrace
CrashTrace.open(Path(sys.argv[1]), "dead", 8).begin(sys.argv[2], "key", "handler")
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_job_and_objects_of_a_killed_worker_are_free_and_those_of_others_are_not(
    redis: Redis, harness: Harness, settings: Settings
) -> None:
    delivery = await harness.queue(change("x", 1), change("x", 2, object_id=2), change("x", 3, object_id=3))
    lanes = [keys.lane(PORTAL, "contact", number) for number in "123"]
    for lane, token in zip(lanes, ("dead:4", "dead-too:1", "another:1"), strict=True):
        await redis.set(lane, token, px=7_000)
    await redis.set(keys.IN_PROGRESS_KEY_PREFIX + delivery.id, "dead", px=7_000)
    command = [sys.executable, "-c", _IS_KILLED, str(settings.data_dir), delivery.id]
    assert await (await asyncio.create_subprocess_exec(*command, cwd=ROOT)).wait() < 0
    await LeftTraces(redis, harness.router, settings).examine()
    assert await redis.mget(lanes) == [None, b"dead-too:1", b"another:1"]
    assert not await redis.exists(keys.IN_PROGRESS_KEY_PREFIX + delivery.id)


@pytest.mark.parametrize("payload", [b"", b"text", b"\x00\xff", b'{"f": "x", "a": [[]]}', b'{"f": "x"}'])
def test_unreadable_job_has_no_lanes(payload: bytes) -> None:
    assert lanes_of_job(payload) == []
