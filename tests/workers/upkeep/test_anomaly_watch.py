"""workers.upkeep.anomaly_watch: what is unusual, and that each alert is reported once per episode."""

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.hourly_counts import HourlyCount, hourly_counts
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append, backlog
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.redis.keys import ALERTS_ACTIVE, JOB_KEY_PREFIX
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import HOLD_DOWN_S, Alert
from tests.support.deployment import SECRET
from tests.support.events import event, recorded
from tests.workers.upkeep.archived import DAY, NOW, archive
from workers.upkeep import anomaly_watch as watch


async def actions(redis: Redis) -> list[tuple[str, str]]:
    return [(record.action.value, record.reason) for record in await recorded(redis)]


async def test_hourly_counts_include_what_the_web_process_ignored_and_refused(redis: Redis, store: AsyncEngine) -> None:
    await archive(redis, store, 2, NOW)
    await archive(redis, store, 3, NOW, outcome=Outcome.RETRIED)  # not a final outcome
    await archive(redis, store, 1, NOW, subscription_type="contact.privacyDeletion", outcome=Outcome.DEAD)
    ignored = {"deal.deletion": 4, "contact.merge": 5, "contact.creation": 9}
    await archive(redis, store, 1, NOW, action=Action.DELIVERY_RECEIVED, outcome=None, detail={"ignored": ignored})
    reasons = {"signature_mismatch": 6, "body_not_json": 9}
    refused = {"action": Action.REQUESTS_REFUSED, "outcome": Outcome.REFUSED, "subscription_type": ""}
    await archive(redis, store, 1, NOW, detail={"reasons": reasons}, **refused)
    counts = await hourly_counts(store, NOW // 3_600_000)
    assert dict(counts) == {
        HourlyCount.DELETIONS: 6,
        HourlyCount.PRIVACY_DELETIONS: 1,
        HourlyCount.DEAD_LETTERS: 1,
        HourlyCount.MERGES: 5,
        HourlyCount.SIGNATURE_FAILURES: 6,
    }


async def test_crossing_a_ceiling_is_reported_once_and_so_is_its_end(
    redis: Redis, store: AsyncEngine, settings: Settings
) -> None:
    await archive(redis, store, 31, NOW)
    episodes = AlertEpisodes(redis)
    with capture_logs() as logs:
        for _ in range(2):
            await watch.watch_volumes(settings, redis, store, episodes)
        calm = settings.model_copy(update={"watch_deletions": 1000})
        for _ in range(2):
            await watch.watch_volumes(calm, redis, store, episodes)
    assert [log["event"] for log in logs] == ["unusual_deletions", "unusual_deletions_over"]
    assert await actions(redis) == [("alert.began", "unusual_deletions"), ("alert.ended", "unusual_deletions")]
    assert await redis.hlen(ALERTS_ACTIVE) == 0


async def test_counts_of_past_hours_are_cached(redis: Redis, store: AsyncEngine, settings: Settings) -> None:
    await watch.watch_volumes(settings, redis, store, AlertEpisodes(redis))
    await archive(redis, store, 40, NOW - 5 * 3_600_000)
    await watch.watch_volumes(settings, redis, store, AlertEpisodes(redis))
    assert await redis.hlen(ALERTS_ACTIVE) == 0


@pytest.mark.parametrize(
    ("today", "per_day", "unusual"),
    [(100, 500.0, True), (99, 90.0, False), (41, 10.0, True), (20, 1.0, False), (50, 0, False)],
)
def test_count_is_unusual_at_the_ceiling_or_far_above_the_average(today: int, per_day: float, unusual: bool) -> None:
    assert unusual is watch.is_unusual(today, per_day, 100)


async def test_age_of_a_secret_is_stored_by_its_fingerprint_only(redis: Redis, settings: Settings) -> None:
    episodes = AlertEpisodes(redis)
    await watch.watch_secrets(settings, redis, episodes)
    names = await redis.hkeys("spokes:secrets")
    active = []
    for days in (74, 75, 90):
        for name in names:
            await redis.hset("spokes:secrets", name, str(NOW - days * DAY - 60_000))
        await watch.watch_secrets(settings, redis, episodes)
        active.append(sorted({name.partition(":")[0] for name in await episodes.active("")}))
    assert active == [[], ["secret_ageing"], ["secret_old"]]
    assert (len(names), any(SECRET.encode() in name for name in names)) == (2, False)


async def test_rotating_a_secret_ends_its_alert(redis: Redis, settings: Settings, environ: dict[str, str]) -> None:
    episodes = AlertEpisodes(redis)
    await watch.watch_secrets(settings, redis, episodes)
    for name in await redis.hkeys("spokes:secrets"):
        await redis.hset("spokes:secrets", name, str(NOW - 100 * DAY))
    await watch.watch_secrets(settings, redis, episodes)
    rotated = {**environ, "HUBSPOT_CLIENT_SECRET": "another-secret", "HUBSPOT_ACCESS_TOKEN": "another-token"}
    await watch.watch_secrets(Settings.from_env(rotated), redis, episodes)
    assert (await episodes.active(""), await redis.hlen("spokes:secrets")) == ([], 2)


@pytest.mark.parametrize("form", ["text", "payload"])
async def test_token_in_redis_is_found_and_not_logged(redis: Redis, settings: Settings, form: str) -> None:
    token = "pat-na1-0123456789abcdef"
    delivery = Delivery("1-1-1", 1, 1, (Entry("aa", 0, event(sourceId=token * 5)),))
    value = job_payload(delivery, 1) if form == "payload" else f"token {token}".encode()
    await redis.set(f"{JOB_KEY_PREFIX}x", value)
    with capture_logs() as logs:
        await watch.watch_tokens(settings, redis, AlertEpisodes(redis))
        await redis.delete(f"{JOB_KEY_PREFIX}x")
        for _ in range(2):
            await watch.watch_tokens(settings, redis, AlertEpisodes(redis))
    assert [log["event"] for log in logs] == ["token_in_redis", "token_in_redis_over"]
    assert "0123456789abcdef" not in str(logs)


async def test_long_audit_stream_is_an_alert(
    redis: Redis, settings: Settings, store: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HOLD_DOWN_S, Alert.AUDIT_BACKLOG, 0.0)
    async with redis.pipeline() as pipeline:
        for _ in range(5):
            append(pipeline, AuditRecord(action=Action.RETENTION, portal_id=0))
        await pipeline.execute()
    await watch.watch_backlog(settings, redis, AlertEpisodes(redis))
    assert (await backlog(redis), await AlertEpisodes(redis).active("")) == (6, ["audit_backlog"])
