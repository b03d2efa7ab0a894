"""End the alert that a portal needs a reinstall, once it is installed again or disconnected."""

from redis.asyncio import Redis

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.core.telemetry.alerts import Alert


async def end_reinstall_alert(redis: Redis, portal_id: int) -> None:
    """End the portal's alert, if it is active.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    await AlertEpisodes(redis).set_state(Alert.NEEDS_REINSTALL, subject=portal_id, portal_id=portal_id, is_active=False)
