"""workers.upkeep.lost_data: what is noticed when Redis loses data, and what is restored."""

import pytest
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.redis import keys
from spokes.core.redis.deployment import database_state, fingerprint
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.reports import decode
from tests.support.events import event
from workers.upkeep.lost_data import LostData

DELIVERY_ID = "50112233-1-1"
HOUR_MS = 3_600_000


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return Settings.from_env(environ)


@pytest.fixture
async def watch(redis: Redis, settings: Settings) -> LostData:
    """A watch that has measured once."""
    await database_state(redis, settings)
    started = LostData(redis, settings, lambda: [DELIVERY_ID])
    await started.measure()
    return started


async def queue(redis: Redis, due_at: int) -> None:
    delivery = Delivery(DELIVERY_ID, 50112233, due_at, (Entry("aa", 0, event()),))
    await redis.set(keys.JOB_KEY_PREFIX + DELIVERY_ID, job_payload(delivery, due_at))
    await redis.zadd(keys.JOB_QUEUE, {DELIVERY_ID: due_at})


async def is_reported(redis: Redis) -> bool:
    return await AlertEpisodes(redis).active(Alert.REDIS_DATA_LOST) != []


async def gap(redis: Redis) -> MissedInterval:
    (payload,) = await redis.lrange(keys.GAP_REPORTS, 0, -1)  # type: ignore[misc]  # redis-py types one class for sync and async
    report = decode(payload)
    assert isinstance(report, MissedInterval)
    return report


async def test_new_database_has_lost_nothing(redis: Redis, watch: LostData) -> None:
    await watch.measure()
    assert not await is_reported(redis)


async def test_loss_of_everything_is_alerted_with_what_was_lost(
    redis: Redis, watch: LostData, capsys: pytest.CaptureFixture[str]
) -> None:
    await queue(redis, clock.now_ms())
    await redis.xadd(keys.AUDIT_STREAM, {"r": "x"})
    await watch.measure()
    await redis.flushdb()
    await watch.measure()
    await watch.measure()
    output = capsys.readouterr()
    lines = [line for line in (output.out + output.err).splitlines() if Alert.REDIS_DATA_LOST in line]
    assert len(lines) == 1
    assert all(text in lines[0] for text in ("everything", "deliveries", "audit_records"))
    assert await is_reported(redis)


async def test_loss_of_everything_is_a_gap_from_the_oldest_delivery_that_waited(redis: Redis, watch: LostData) -> None:
    due_at = clock.now_ms() - HOUR_MS
    await queue(redis, due_at)
    await watch.measure()
    await redis.flushdb()
    await watch.measure()
    missed = await gap(redis)
    assert missed.cause is GapCause.REDIS_DATA_LOST
    assert missed.since < due_at < missed.until


async def test_gap_is_as_long_as_retries_take_if_only_retries_waited(redis: Redis, watch: LostData) -> None:
    await queue(redis, clock.now_ms() + HOUR_MS)
    await watch.measure()
    await redis.flushdb()
    await watch.measure()
    missed = await gap(redis)
    assert missed.until - missed.since > 23 * HOUR_MS


async def test_emptied_database_still_belongs_to_its_deployment(
    redis: Redis, watch: LostData, settings: Settings
) -> None:
    await redis.flushdb()
    await watch.measure()
    assert await redis.hget(keys.DEPLOYMENT, "fingerprint") == fingerprint(settings).encode()  # type: ignore[misc]  # as above


async def test_two_workers_report_one_loss_once(redis: Redis, watch: LostData, settings: Settings) -> None:
    other = LostData(redis, settings, list)
    await other.measure()
    await redis.flushdb()
    await watch.measure()
    await other.measure()
    assert await redis.llen(keys.GAP_REPORTS) == 1  # type: ignore[misc]  # as above


async def test_lost_queue_is_restored_from_its_jobs(redis: Redis, watch: LostData) -> None:
    await queue(redis, clock.now_ms())
    await redis.delete(keys.JOB_QUEUE)
    await watch.measure()
    assert await redis.zrange(keys.JOB_QUEUE, 0, -1) == [DELIVERY_ID.encode()]
    assert await is_reported(redis)


async def test_renamed_audit_stream_is_reported(redis: Redis, watch: LostData) -> None:
    for _ in range(5):
        await redis.xadd(keys.AUDIT_STREAM, {"r": "x"})
    await watch.measure()
    await redis.rename(keys.AUDIT_STREAM, "renamed")
    await redis.xadd(keys.AUDIT_STREAM, {"r": "x"})
    await watch.measure()
    assert await is_reported(redis)


async def test_archived_records_are_no_loss(redis: Redis, watch: LostData) -> None:
    entries = [await redis.xadd(keys.AUDIT_STREAM, {"r": "x"}) for _ in range(5)]
    await watch.measure()
    await redis.xdel(keys.AUDIT_STREAM, *entries)
    await watch.measure()
    assert not await is_reported(redis)


async def test_report_ends_after_a_day(redis: Redis, watch: LostData) -> None:
    await redis.flushdb()
    await watch.measure()
    await redis.hset(keys.DEPLOYMENT, "lost_at", clock.now_ms() - 25 * HOUR_MS)  # type: ignore[misc]  # as above
    await watch.measure()
    assert not await is_reported(redis)


@pytest.mark.parametrize("name", [keys.DEPLOYMENT, keys.JOB_QUEUE, keys.AUDIT_STREAM])
async def test_key_of_another_type_is_no_loss(redis: Redis, watch: LostData, name: str) -> None:
    await redis.delete(name)
    await redis.set(name, "foreign")
    await watch.measure()
    assert not await is_reported(redis)
