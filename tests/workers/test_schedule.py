"""What workers do now and then: once a period, by one of them, and alerts once for each episode."""

import asyncio
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.archiver import Archiver
from spokes.audit.hourly_counts import HourlyCount, hourly_counts
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.sql import schema
from spokes.audit.stream import append, backlog
from spokes.core import clock
from spokes.core.delivery import ALERTS_ACTIVE, AUDIT_STREAM, JOB_KEY_PREFIX, Delivery, Entry, encode, job_payload
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from tests.support.deployment import KEY, SECRET
from tests.support.events import event, recorded
from workers.upkeep import anomaly_watch as watch
from workers.upkeep.schedule import PeriodicJob, purge_erased_again, purge_expired, run_if_due, tasks

NOW = clock.now_ms()
DAY = 86_400_000


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite: what is asked of the store here does not depend on its kind."""
    return f"sqlite:///{tmp_path}/audit.sqlite"


@pytest.fixture
def settings(environ: dict[str, str], database_url: str) -> Settings:
    chosen = {"DATABASE_URL": database_url, "WATCH_DELETIONS": "30", "AUDIT_BACKLOG": "5", "AUDIT_DAYS": "10"}
    return Settings.from_env({**environ, **chosen})


@pytest.fixture
async def store(engine: AsyncEngine) -> AsyncEngine:
    await schema.upgrade(engine)
    return engine


async def happened(redis: Redis, engine: AsyncEngine, count: int, at: int, **fields: object) -> None:
    given = {"action": Action.EVENT, "outcome": Outcome.PROCESSED, "subscription_type": "contact.deletion", **fields}
    async with redis.pipeline() as pipeline:
        for _ in range(count):
            append(pipeline, AuditRecord(portal_id=1, at=at, **given))
        await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()


async def told(redis: Redis) -> list[tuple[str, str]]:
    records = await recorded(redis)
    return [(record.action.value, record.reason) for record in records]


async def test_every_kind_is_counted_with_what_the_door_ignored_and_refused(redis: Redis, store: AsyncEngine) -> None:
    await happened(redis, store, 2, NOW)
    await happened(redis, store, 3, NOW, outcome=Outcome.RETRIED)  # has not ended
    await happened(redis, store, 1, NOW, subscription_type="contact.privacyDeletion", outcome=Outcome.DEAD)
    ignored = {"deal.deletion": 4, "contact.merge": 5, "contact.creation": 9}
    await happened(redis, store, 1, NOW, action=Action.DELIVERY_RECEIVED, outcome=None, detail={"ignored": ignored})
    reasons = {"signature_mismatch": 6, "body_not_json": 9}
    refused = {"action": Action.REQUESTS_REFUSED, "outcome": Outcome.REFUSED, "subscription_type": ""}
    await happened(redis, store, 1, NOW, detail={"reasons": reasons}, **refused)
    counted = await hourly_counts(store, NOW // 3_600_000)
    assert dict(counted) == {
        HourlyCount.DELETIONS: 6,
        HourlyCount.PRIVACY_DELETIONS: 1,
        HourlyCount.DEAD_LETTERS: 1,
        HourlyCount.MERGES: 5,
        HourlyCount.SIGNATURE_FAILURES: 6,
    }


async def test_ceiling_is_an_alert_once_and_its_end_too(redis: Redis, store: AsyncEngine, settings: Settings) -> None:
    await happened(redis, store, 31, NOW)
    episodes = AlertEpisodes(redis)
    with capture_logs() as logs:
        for _ in range(2):
            await watch.watch_volumes(settings, redis, store, episodes)
        calm = settings.model_copy(update={"watch_deletions": 1000})
        for _ in range(2):
            await watch.watch_volumes(calm, redis, store, episodes)
    assert [log["event"] for log in logs] == ["unusual_deletions", "unusual_deletions_over"]
    assert await told(redis) == [("alert.began", "unusual_deletions"), ("alert.ended", "unusual_deletions")]
    assert await redis.hlen(ALERTS_ACTIVE) == 0


async def test_hours_that_are_over_are_read_once(redis: Redis, store: AsyncEngine, settings: Settings) -> None:
    await watch.watch_volumes(settings, redis, store, AlertEpisodes(redis))
    await happened(redis, store, 40, NOW - 5 * 3_600_000)
    await watch.watch_volumes(settings, redis, store, AlertEpisodes(redis))
    assert await redis.hlen(ALERTS_ACTIVE) == 0


@pytest.mark.parametrize(
    ("today", "per_day", "unusual"),
    [(100, 500.0, True), (99, 90.0, False), (41, 10.0, True), (20, 1.0, False), (50, 0, False)],
)
def test_unusual_is_the_ceiling_or_many_times_the_usual(today: int, per_day: float, unusual: bool) -> None:
    assert unusual is watch.is_unusual(today, per_day, 100)


async def test_secret_ages_by_its_fingerprint_alone(redis: Redis, settings: Settings) -> None:
    episodes = AlertEpisodes(redis)
    await watch.watch_secrets(settings, redis, episodes)
    names = await redis.hkeys("spokes:secrets")
    standing = []
    for days in (74, 75, 90):
        for name in names:
            await redis.hset("spokes:secrets", name, str(NOW - days * DAY - 60_000))
        await watch.watch_secrets(settings, redis, episodes)
        standing.append(sorted({name.partition(":")[0] for name in await episodes.active("")}))
    assert standing == [[], ["secret_ageing"], ["secret_old"]]
    assert (len(names), any(SECRET.encode() in name for name in names)) == (2, False)


async def test_new_secret_ends_the_alert_of_the_old(redis: Redis, settings: Settings, environ: dict[str, str]) -> None:
    episodes = AlertEpisodes(redis)
    await watch.watch_secrets(settings, redis, episodes)
    for name in await redis.hkeys("spokes:secrets"):
        await redis.hset("spokes:secrets", name, str(NOW - 100 * DAY))
    await watch.watch_secrets(settings, redis, episodes)
    rotated = {**environ, "HUBSPOT_CLIENT_SECRET": "another-secret", "HUBSPOT_ACCESS_TOKEN": "another-token"}
    await watch.watch_secrets(Settings.from_env(rotated), redis, episodes)
    assert (await episodes.active(""), await redis.hlen("spokes:secrets")) == ([], 2)


@pytest.mark.parametrize("where", ["text", "payload"])
async def test_token_in_redis_is_found_and_not_repeated(redis: Redis, settings: Settings, where: str) -> None:
    token = "pat-na1-0123456789abcdef"
    delivery = Delivery("1-1-1", 1, 1, (Entry("aa", 0, event(sourceId=token * 5)),))
    value = job_payload(delivery, 1) if where == "payload" else f"token {token}".encode()
    await redis.set(f"{JOB_KEY_PREFIX}x", value)
    with capture_logs() as logs:
        await watch.watch_tokens(settings, redis, AlertEpisodes(redis))
        await redis.delete(f"{JOB_KEY_PREFIX}x")
        for _ in range(2):
            await watch.watch_tokens(settings, redis, AlertEpisodes(redis))
    assert [log["event"] for log in logs] == ["token_in_redis", "token_in_redis_over"]
    assert "0123456789abcdef" not in str(logs)


async def test_long_stream_is_an_alert(redis: Redis, settings: Settings, store: AsyncEngine) -> None:
    async with redis.pipeline() as pipeline:
        for _ in range(5):
            append(pipeline, AuditRecord(action=Action.RETENTION, portal_id=0))
        await pipeline.execute()
    await watch.watch_backlog(settings, redis, AlertEpisodes(redis))
    assert (await backlog(redis), await AlertEpisodes(redis).active("")) == (6, ["audit_backlog"])


async def test_retention_reports_what_it_purged(redis: Redis, store: AsyncEngine, settings: Settings) -> None:
    await happened(redis, store, 4, NOW - 11 * DAY)
    await happened(redis, store, 2, NOW)
    await redis.sadd(keys.PORTALS, 1)
    await redis.zadd(keys.dead_letters_by_time(1), {"old": NOW - 31 * DAY, "new": NOW})
    for at in (NOW - 31 * DAY, NOW):
        await redis.lpush(keys.UNREADABLE_JOBS, encode({"id": "1", "at": at, "payload": ""}))
    await redis.delete(AUDIT_STREAM)  # an empty stream refuses older entries
    await redis.xadd(AUDIT_STREAM, {"r": b"{}"}, id=f"{NOW - 31 * DAY}-0")
    await purge_expired(settings, redis, store)
    (told,) = await recorded(redis)
    detail = told.detail
    assert {name: detail[name] for name in ("audit", "dead_letters", "unreadable", "stream")} == {
        "audit": 4,
        "dead_letters": 1,
        "unreadable": 1,
        "stream": 1,
    }


async def test_erased_object_is_looked_for_until_it_is_gone(redis: Redis) -> None:
    ledger = keys.newest_timestamps(1, "contact", "5")
    now = clock.now_ms()
    await redis.zadd(keys.ERASED_OBJECTS, {"1:contact:5": now - 10 * 60_000, "1:contact:6": now})
    await redis.hset(ledger, "phone", "1")
    await purge_erased_again(redis)
    left = await redis.exists(ledger)
    await purge_erased_again(redis)
    assert (left, await redis.zrange(keys.ERASED_OBJECTS, 0, -1)) == (0, [b"1:contact:6"])


async def test_worker_does_all_that_is_due(redis: Redis, store: AsyncEngine, settings: Settings) -> None:
    crm = await CRM.open(settings, redis)
    [running] = [asyncio.create_task(task) for task in tasks(settings, redis, crm)]
    async with asyncio.timeout(10):
        while not await redis.get("spokes:schedule:secrets"):  # noqa: ASYNC110 - the one waited for is another process
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await crm.close()
    names = {name.decode() async for name in redis.scan_iter(match="spokes:schedule:*")}
    wanted = {"backlog", "forgotten", "tokens", "volumes", "erasures", "secrets", "retention"}
    assert names == {f"spokes:schedule:{name}" for name in wanted}


class TestWhenDue:
    """A job is done once a period, by one process; `ran` counts."""

    ran = 0

    @pytest.fixture
    def job(self) -> PeriodicJob:
        async def run() -> None:
            self.ran += 1

        return PeriodicJob("test", 3600, run)

    async def test_once_in_a_period(self, redis: Redis, job: PeriodicJob) -> None:
        assert [await run_if_due(redis, job), await run_if_due(redis, job)] == [True, False]

    async def test_again_in_the_next(self, redis: Redis, job: PeriodicJob) -> None:
        await run_if_due(redis, job)
        await redis.set("spokes:schedule:test", str(job.period(time.time()) - 1))
        assert await run_if_due(redis, job)

    async def test_not_on_the_first_day_when_it_is_for_the_night(self, redis: Redis, job: PeriodicJob) -> None:
        assert not await run_if_due(redis, job._replace(at_first=False))

    async def test_not_by_two_at_once(self, redis: Redis, job: PeriodicJob) -> None:
        done = await asyncio.gather(*(run_if_due(redis, job) for _ in range(3)))
        assert (sum(done), self.ran) == (1, 1)

    async def test_failure_is_told_and_leaves_the_period_open(self, redis: Redis) -> None:
        async def fail() -> None:
            raise ValueError("with a value")

        with capture_logs() as logs:
            done = await run_if_due(redis, PeriodicJob("test", 3600, fail))
        assert (done, await redis.get("spokes:schedule:test"), logs[0]["event"]) == (False, b"", "job_failed")

    def test_night_begins_at_three(self, job: PeriodicJob) -> None:
        nightly = job._replace(every_s=86_400, after_s=3 * 3600)
        assert [nightly.period(hour * 3600) for hour in (26, 27, 50, 51)] == [0, 1, 1, 2]
