"""What frees memory works in a Redis without memory: archiving, leases, dead letters, retention, alerts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.archiver import Archiver
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.audit.stream import backlog
from spokes.core.delivery import Entry
from spokes.core.redis import keys
from spokes.core.redis.keys import ALERT_OUTBOX
from spokes.core.redis.leader_lock import LeaderLock
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from tests.support.deployment import KEY
from tests.support.events import append_records, event, record, store_dead_letters
from tests.support.redis_server import fill_memory, own_server
from workers.upkeep import schedule

LETTER = DeadLetter(7, "7-1-1", Entry("aa", 1, event(portalId=7)), "not_found", "handler", 1)


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[Redis]:
    """A Redis without memory, which holds 50 audit records and a dead letter."""
    async with own_server(tmp_path / "valkey", maxmemory="3mb") as (_, redis):
        await append_records(redis, *map(record, range(1, 51)))
        await store_dead_letters(redis, LETTER)
        await redis.set(keys.periodic_job("retention"), "0")  # it ran before
        await fill_memory(redis)
        with pytest.raises(OutOfMemoryError):
            await redis.set("key", "value")
        yield redis


async def test_one_process_leads(full: Redis) -> None:
    first, second = LeaderLock(full, "lease"), LeaderLock(full, "lease")
    assert [await first.is_leader(), await second.is_leader()] == [True, False]
    await first.release()
    assert await second.is_leader()


async def test_archiver_empties_the_stream(full: Redis, tmp_path: Path) -> None:
    engine = open_engine(Settings.from_env({"DATABASE_URL": f"sqlite:///{tmp_path}/audit.sqlite"}).database_address)
    stop = asyncio.Event()
    running = asyncio.ensure_future(Archiver(full, engine, KEY).run(stop))
    async with asyncio.timeout(20):
        while await backlog(full):  # noqa: ASYNC110 - the archiver gets there
            await asyncio.sleep(0.05)
    stop.set()
    await running
    await engine.dispose()


async def test_alert_is_stored(full: Redis) -> None:
    await AlertEpisodes(full).set_state(Alert.QUEUE_FILLING, is_active=True, at_once=True)
    assert await AlertEpisodes(full).active("queue_filling") == ["queue_filling"]
    assert await full.llen(ALERT_OUTBOX) == 1  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_dead_letter_is_discarded_with_its_record(full: Redis) -> None:
    before = await backlog(full)
    assert await DeadLetters(full).discard([LETTER], actor="ops", reason="test") == 1
    assert (await DeadLetters(full).get(7, "aa"), await backlog(full)) == (None, before + 1)


async def test_retention_deletes_what_is_too_old(full: Redis, environ: dict[str, str], tmp_path: Path) -> None:
    settings = Settings.from_env({**environ, "DATABASE_URL": f"sqlite:///{tmp_path}/audit.sqlite"})
    engine = open_engine(settings.database_address)
    await schema.upgrade(engine)
    job = schedule.PeriodicJob("retention", 86_400, lambda: schedule.purge_expired(settings, full, engine))
    await schedule.run_if_due(full, job)
    await engine.dispose()
    assert await full.zcard(keys.dead_letters_by_time(7)) == 0
