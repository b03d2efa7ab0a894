"""Active alerts: one report per episode; every alert is documented and raised somewhere."""

import asyncio
import json

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.redis.keys import ALERT_OUTBOX, ALERTS_ACTIVE, ALERTS_HELD, AUDIT_STREAM
from spokes.core.telemetry.alerts import ALERT_TEXTS, HOLD_DOWN_S, Alert
from tests.support.command_line import spokes
from tests.support.deployment import ROOT
from tests.support.events import recorded


async def test_outbox_is_bounded(redis: Redis) -> None:
    episodes = AlertEpisodes(redis)
    for _ in range(110):
        await episodes.set_state(Alert.EVENTS_LOST, is_active=True)
        await episodes.set_state(Alert.EVENTS_LOST, is_active=False)
    assert (await redis.llen(ALERT_OUTBOX), 0 < await redis.ttl(ALERT_OUTBOX) <= 86_400) == (200, True)


async def test_concurrent_changes_are_reported_once(redis: Redis) -> None:
    with capture_logs() as logs:
        await asyncio.gather(*(AlertEpisodes(redis).set_state(Alert.EVENTS_LOST, is_active=True) for _ in range(20)))
    assert (len(logs), await redis.xlen(AUDIT_STREAM), await redis.llen(ALERT_OUTBOX)) == (1, 1, 1)


async def test_record_and_active_alert_contain_the_portal(redis: Redis) -> None:
    await AlertEpisodes(redis).set_state(
        Alert.PORTAL_PAUSED, subject=7, portal_id=7, is_active=True, at_once=True, why="not_authorized"
    )
    (record,) = await recorded(redis)
    details = json.loads(await redis.hget(ALERTS_ACTIVE, "portal_paused:7"))
    assert (record.portal_id, record.reason, details["why"]) == (7, "portal_paused:7", "not_authorized")


async def test_repeated_report_is_logged_each_time_and_queued_once(redis: Redis) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            await AlertEpisodes(redis).report_once(Alert.UNREADABLE_DELIVERY, job_id="x")
    assert (len(logs), await redis.llen(ALERT_OUTBOX)) == (3, 1)


class FakeClock:
    """A clock that only `advance` moves."""

    def __init__(self) -> None:
        self.now_ms = 1_795_442_400_000

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr("spokes.audit.alerts.alert_episodes.now_ms", fake)
    return fake


OUTAGES = pytest.mark.parametrize("alert", HOLD_DOWN_S)


@OUTAGES
async def test_outage_shorter_than_its_hold_down_is_not_reported(
    redis: Redis, fake_clock: FakeClock, alert: Alert
) -> None:
    episodes = AlertEpisodes(redis)
    with capture_logs() as logs:
        for seconds in (0.1, 0.4, 0.4):
            assert not await episodes.set_state(alert, is_active=True, subject=7)
            fake_clock.advance(seconds * HOLD_DOWN_S[alert])
            await episodes.report_held()
            assert await episodes.set_state(alert, is_active=False, subject=7)
            fake_clock.advance(60)
    assert (logs, await redis.xlen(AUDIT_STREAM), await redis.llen(ALERT_OUTBOX)) == ([], 0, 0)
    assert await episodes.active(alert) == []


@OUTAGES
async def test_outage_that_is_set_once_is_reported_after_its_hold_down(
    redis: Redis, fake_clock: FakeClock, alert: Alert
) -> None:
    """By any process, and once."""
    began_at = fake_clock.now_ms
    with capture_logs() as logs:
        await AlertEpisodes(redis).set_state(
            alert, is_active=True, subject=7, portal_id=7, level="warning", why="outage"
        )
        fake_clock.advance(HOLD_DOWN_S[alert])
        for _ in range(2):
            await asyncio.gather(*(AlertEpisodes(redis).report_held() for _ in range(3)))
        details = json.loads(await redis.hget(ALERTS_ACTIVE, f"{alert}:7"))
        await AlertEpisodes(redis).set_state(alert, is_active=False, subject=7, portal_id=7)
    assert details == {"since": began_at, "portal_id": 7, "why": "outage"}
    assert [(log["event"], log["log_level"]) for log in logs] == [(alert, "warning"), (f"{alert}_over", "info")]
    assert [record.action for record in await recorded(redis)] == ["alert.began", "alert.ended"]
    assert [json.loads(message)["state"] for message in await redis.lrange(ALERT_OUTBOX, 0, -1)] == ["began", "ended"]


@OUTAGES
async def test_outage_that_is_set_again_after_its_hold_down_is_reported(
    redis: Redis, fake_clock: FakeClock, alert: Alert
) -> None:
    episodes = AlertEpisodes(redis)
    assert not await episodes.set_state(alert, is_active=True)
    fake_clock.advance(HOLD_DOWN_S[alert] + 0.1)
    assert await episodes.set_state(alert, is_active=True)
    assert await episodes.active(alert) == [alert]


@OUTAGES
async def test_outages_that_follow_each_other_are_reported_once_they_add_up(
    redis: Redis, fake_clock: FakeClock, alert: Alert
) -> None:
    episodes, reported = AlertEpisodes(redis), []
    for _ in range(3):
        await episodes.set_state(alert, is_active=True)
        fake_clock.advance(0.4 * HOLD_DOWN_S[alert])
        await episodes.report_held()
        reported.append(bool(await episodes.active(alert)))
        await episodes.set_state(alert, is_active=False)
        fake_clock.advance(60)
    assert reported == [False, False, True]


async def test_short_outage_is_forgotten_after_ten_minutes(redis: Redis, fake_clock: FakeClock) -> None:
    episodes = AlertEpisodes(redis)
    await episodes.set_state(Alert.AUDIT_UNAVAILABLE, is_active=True)
    fake_clock.advance(9)
    await episodes.set_state(Alert.AUDIT_UNAVAILABLE, is_active=False)
    fake_clock.advance(601)
    await episodes.report_held()
    assert await redis.exists(ALERTS_HELD) == 0
    await episodes.set_state(Alert.AUDIT_UNAVAILABLE, is_active=True)
    fake_clock.advance(9)
    await episodes.report_held()
    assert await episodes.active(Alert.AUDIT_UNAVAILABLE) == []


@pytest.mark.parametrize("stored", [b"{}", b"nonsense", b'{"since": 1, "report": "[]"}', b"[]"])
async def test_unreadable_held_alert_is_dropped(redis: Redis, stored: bytes) -> None:
    await redis.hset(ALERTS_HELD, "audit_unavailable", stored)
    await AlertEpisodes(redis).report_held()
    assert await redis.exists(ALERTS_HELD) == 0


async def test_pause_by_an_operator_is_reported_at_once(redis: Redis) -> None:
    assert await AlertEpisodes(redis).set_state(Alert.PORTAL_PAUSED, is_active=True, at_once=True)
    assert await AlertEpisodes(redis).active("portal_paused") == ["portal_paused"]


async def test_lost_events_are_reported_at_once(redis: Redis) -> None:
    assert await AlertEpisodes(redis).set_state(Alert.EVENTS_LOST, is_active=True, count=1)
    assert await AlertEpisodes(redis).active("events_lost") == ["events_lost"]


def test_every_alert_has_texts_and_is_in_the_table_of_operations() -> None:
    table = (ROOT / "docs" / "operations.md").read_text()
    rows = {alert: f"| `{alert}` | {' | '.join(ALERT_TEXTS[alert])} |" for alert in Alert}
    assert [alert for alert, row in rows.items() if row not in table] == []


def test_every_alert_is_raised_somewhere() -> None:
    text = "\n".join(
        path.read_text()
        for name in ("spokes", "ingest", "workers")
        for path in (ROOT / name).rglob("*.py")
        if path.name != "alerts.py"
    )
    raised = {alert.name for alert in Alert if f"Alert.{alert.name}" in text or alert.startswith("unusual_")}
    assert raised == {alert.name for alert in Alert}


async def test_operator_sees_active_alerts_with_advice(redis: Redis, environ: dict[str, str]) -> None:
    await AlertEpisodes(redis).set_state(Alert.AUDIT_BACKLOG, is_active=True, at_once=True, waiting=7)
    shown = await asyncio.to_thread(spokes, environ, "alerts")
    assert "More audit records than AUDIT_BACKLOG" in shown.stdout
    assert "waiting 7" in shown.stdout
    [alert] = map(json.loads, (await asyncio.to_thread(spokes, environ, "alerts", "--json")).stdout.splitlines())
    assert (alert["name"], alert["fields"]) == ("audit_backlog", {"waiting": 7})
