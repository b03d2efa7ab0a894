"""Active alerts: one report per episode; every alert is documented and raised somewhere."""

import asyncio
import json

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.core.redis.keys import ALERT_OUTBOX, ALERTS_ACTIVE, AUDIT_STREAM
from spokes.core.telemetry.alerts import ALERT_TEXTS, HOLD_DOWN_S, Alert
from tests.support.command_line import spokes
from tests.support.deployment import ROOT
from tests.support.events import recorded


async def test_outbox_is_bounded(redis: Redis) -> None:
    episodes = AlertEpisodes(redis)
    for _ in range(110):
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True)
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=False)
    assert (await redis.llen(ALERT_OUTBOX), 0 < await redis.ttl(ALERT_OUTBOX) <= 86_400) == (200, True)


async def test_concurrent_changes_are_reported_once(redis: Redis) -> None:
    with capture_logs() as logs:
        await asyncio.gather(*(AlertEpisodes(redis).set_state(Alert.QUEUE_FILLING, is_active=True) for _ in range(20)))
    assert (len(logs), await redis.xlen(AUDIT_STREAM), await redis.llen(ALERT_OUTBOX)) == (1, 1, 1)


async def test_record_and_active_alert_contain_the_portal(redis: Redis) -> None:
    await AlertEpisodes(redis).set_state(
        Alert.PORTAL_PAUSED, subject=7, portal_id=7, is_active=True, why="not_authorized"
    )
    (record,) = await recorded(redis)
    details = json.loads(await redis.hget(ALERTS_ACTIVE, "portal_paused:7"))
    assert (record.portal_id, record.reason, details["why"]) == (7, "portal_paused:7", "not_authorized")


async def test_repeated_report_is_logged_each_time_and_queued_once(redis: Redis) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            await AlertEpisodes(redis).report_once(Alert.UNREADABLE_DELIVERY, job_id="x")
    assert (len(logs), await redis.llen(ALERT_OUTBOX)) == (3, 1)


async def test_problem_shorter_than_its_hold_down_is_not_reported(redis: Redis) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            for _ in range(2):
                assert not await AlertEpisodes(redis).set_state(Alert.AUDIT_UNAVAILABLE, is_active=True)
            assert await AlertEpisodes(redis).set_state(Alert.AUDIT_UNAVAILABLE, is_active=False)
    assert (logs, await redis.keys()) == ([], [])


async def test_problem_longer_than_its_hold_down_is_reported_once(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HOLD_DOWN_S, Alert.AUDIT_UNAVAILABLE, 0.2)
    with capture_logs() as logs:
        assert not await AlertEpisodes(redis).set_state(Alert.AUDIT_UNAVAILABLE, is_active=True)
        await asyncio.sleep(0.25)
        for _ in range(2):  # by any process
            assert await AlertEpisodes(redis).set_state(Alert.AUDIT_UNAVAILABLE, is_active=True)
        await AlertEpisodes(redis).set_state(Alert.AUDIT_UNAVAILABLE, is_active=False)
    assert [log["event"] for log in logs] == ["audit_unavailable", "audit_unavailable_over"]
    assert [record.action for record in await recorded(redis)] == ["alert.began", "alert.ended"]


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
    await AlertEpisodes(redis).set_state(Alert.AUDIT_BACKLOG, is_active=True, waiting=7)
    shown = await asyncio.to_thread(spokes, environ, "alerts")
    assert "More audit records than AUDIT_BACKLOG" in shown.stdout
    assert "waiting 7" in shown.stdout
    [alert] = map(json.loads, (await asyncio.to_thread(spokes, environ, "alerts", "--json")).stdout.splitlines())
    assert (alert["name"], alert["fields"]) == ("audit_backlog", {"waiting": 7})
