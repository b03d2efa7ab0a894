"""Alert while the journal's reader is behind, whether it runs or not: HubSpot deletes a page after three days."""

from typing import Final

from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.telemetry.alerts import Alert
from spokes.intake.journal.cursor import load_cursor

_HOUR_MS: Final = 3_600_000
_ALERT_FROM_MS: Final = {Alert.JOURNAL_BEHIND: 24 * _HOUR_MS, Alert.JOURNAL_EXPIRING: 60 * _HOUR_MS}


async def watch_journal(redis: Redis, episodes: AlertEpisodes) -> None:
    """Set both alerts by the age of the cursor; a journal that was never read has none.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    age_ms = (await load_cursor(redis)).age_ms(clock.now_ms())
    for alert, from_ms in _ALERT_FROM_MS.items():
        await episodes.set_state(alert, is_active=age_ms >= from_ms, hours=age_ms // _HOUR_MS)
