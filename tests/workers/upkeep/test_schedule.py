"""workers.upkeep.schedule: each periodic job runs once per period, in one of the workers."""

import asyncio
import time

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from spokes.core import clock
from spokes.core.delivery import encode
from spokes.core.redis import keys
from spokes.core.redis.keys import AUDIT_STREAM
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from tests.support.events import recorded
from tests.support.waiting import until
from tests.workers.upkeep.archived import DAY, NOW, archive
from workers.upkeep.schedule import PeriodicJob, purge_erased_again, purge_expired, run_if_due, run_schedule


async def test_retention_audits_what_it_purged(redis: Redis, store: AsyncEngine, settings: Settings) -> None:
    await archive(redis, store, 4, NOW - 11 * DAY)
    await archive(redis, store, 2, NOW)
    await redis.sadd(keys.PORTALS, 1)
    await redis.zadd(keys.dead_letters_by_time(1), {"old": NOW - 31 * DAY, "new": NOW})
    for at in (NOW - 31 * DAY, NOW):
        await redis.lpush(keys.UNREADABLE_JOBS, encode({"id": "1", "at": at, "payload": ""}))
    await redis.delete(AUDIT_STREAM)  # an empty stream refuses older entries
    await redis.xadd(AUDIT_STREAM, {"r": b"{}"}, id=f"{NOW - 31 * DAY}-0")
    await purge_expired(settings, redis, store)
    (record,) = await recorded(redis)
    detail = record.detail
    assert {name: detail[name] for name in ("audit", "dead_letters", "unreadable", "stream")} == {
        "audit": 4,
        "dead_letters": 1,
        "unreadable": 1,
        "stream": 1,
    }


async def test_erased_object_is_purged_again_until_nothing_is_left(redis: Redis, settings: Settings) -> None:
    ledger = keys.newest_timestamps(1, "contact", "5")
    now = clock.now_ms()
    await redis.zadd(keys.ERASED_OBJECTS, {"1:contact:5": now - 10 * 60_000, "1:contact:6": now})
    await redis.hset(ledger, "phone", "1")
    await purge_erased_again(settings, redis)
    left = await redis.exists(ledger)
    await purge_erased_again(settings, redis)
    assert (left, await redis.zrange(keys.ERASED_OBJECTS, 0, -1)) == (0, [b"1:contact:6"])


async def test_schedule_runs_every_job_that_is_due(redis: Redis, store: AsyncEngine, settings: Settings) -> None:
    crm = await CRM.open(settings, redis)
    running = asyncio.create_task(run_schedule(settings, redis, crm, RedisOutage(), "periodic jobs"))

    async def scheduled() -> set[str]:
        return {name.decode() async for name in redis.scan_iter(match="spokes:schedule:*")}

    wanted = {"backlog", "running", "forgotten", "tokens", "volumes", "lost", "erasures", "secrets", "retention"}
    wanted |= {"checkpoint", "verification", "gaps", "silence", "subscriptions", "jobs", "journal", "lifecycles"}
    wanted |= {"portal settings", "redeliveries"}
    names = {f"spokes:schedule:{name}" for name in wanted}

    async def all_have_run() -> bool:
        return names <= await scheduled()

    await until(all_have_run)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await crm.close()
    assert await scheduled() == names


class TestRunIfDue:
    """A job runs once per period, in one process."""

    runs = 0

    @pytest.fixture
    def job(self) -> PeriodicJob:
        async def run() -> None:
            self.runs += 1

        return PeriodicJob("test", 3600, run)

    async def test_job_runs_once_in_a_period(self, redis: Redis, job: PeriodicJob) -> None:
        assert [await run_if_due(redis, job), await run_if_due(redis, job)] == [True, False]

    async def test_job_runs_again_in_the_next_period(self, redis: Redis, job: PeriodicJob) -> None:
        await run_if_due(redis, job)
        await redis.set("spokes:schedule:test", str(job.period(time.time()) - 1))
        assert await run_if_due(redis, job)

    async def test_nightly_job_does_not_run_at_the_first_start(self, redis: Redis, job: PeriodicJob) -> None:
        assert not await run_if_due(redis, job._replace(on_first_start=False))

    async def test_job_does_not_run_twice_at_a_time(self, redis: Redis, job: PeriodicJob) -> None:
        done = await asyncio.gather(*(run_if_due(redis, job) for _ in range(3)))
        assert (sum(done), self.runs) == (1, 1)

    async def test_failure_is_logged_and_leaves_the_period_open(self, redis: Redis) -> None:
        async def fail() -> None:
            raise ValueError("with a value")

        with capture_logs() as logs:
            done = await run_if_due(redis, PeriodicJob("test", 3600, fail))
        assert (done, await redis.get("spokes:schedule:test"), logs[0]["event"]) == (False, b"", "job_failed")

    def test_nightly_period_begins_at_three(self, job: PeriodicJob) -> None:
        nightly = job._replace(every_s=86_400, offset_s=3 * 3600)
        assert [nightly.period(hour * 3600) for hour in (26, 27, 50, 51)] == [0, 1, 1, 2]
