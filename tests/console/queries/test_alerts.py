"""Active alerts."""

from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.console.queries.alerts import active_alerts
from spokes.core.telemetry.alerts import Alert
from tests.console.queries.helpers import PORTAL


async def test_active_alerts_have_advice(redis: Redis) -> None:
    await AlertEpisodes(redis).set_state(Alert.AUDIT_BACKLOG, is_active=True, at_once=True, waiting=7)
    await AlertEpisodes(redis).set_state(
        Alert.PORTAL_PAUSED, is_active=True, at_once=True, portal_id=PORTAL, subject=PORTAL
    )
    everything, own = await active_alerts(redis, None), await active_alerts(redis, frozenset({PORTAL}))
    assert {(alert.name, bool(alert.advice)) for alert in everything} == {
        ("audit_backlog", True),
        ("portal_paused", True),
    }
    assert [alert.name for alert in own] == ["portal_paused"]
