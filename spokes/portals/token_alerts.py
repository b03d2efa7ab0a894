"""The alerts about tokens of installed portals. Redis that does not answer costs an alert, never a refresh."""

from contextlib import suppress
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.telemetry.alerts import Alert

_OF_PORTALS: Final = (Alert.NEEDS_REINSTALL, Alert.TOKEN_REFRESH_REFUSED)


class TokenAlerts:
    """What a process reports about the refreshes that it makes."""

    def __init__(self, redis: Redis) -> None:
        self._episodes = AlertEpisodes(redis)
        self._is_app_refused = True  # unknown: the first success ends an alert of an earlier process

    async def report_refreshed(self, portal_id: int) -> None:
        """End the alerts that new tokens disprove."""
        if self._is_app_refused:
            await self._set_app_refused(is_active=False)
        await self._set(Alert.TOKEN_REFRESH_REFUSED, portal_id, is_active=False)

    async def report_app_refused(self, code: str) -> None:
        """Report that HubSpot refuses the app."""
        await self._set_app_refused(is_active=True, code=code)

    async def report_portal_refused(self, portal_id: int, code: str) -> None:
        """Report that HubSpot refuses the refreshes of one portal."""
        await self._set(Alert.TOKEN_REFRESH_REFUSED, portal_id, is_active=True, code=code)

    async def report_revoked(self, portal_id: int, code: str) -> None:
        """Report that a portal needs a reinstall."""
        await self._set(Alert.NEEDS_REINSTALL, portal_id, is_active=True, code=code)
        await self._set(Alert.TOKEN_REFRESH_REFUSED, portal_id, is_active=False)

    async def _set_app_refused(self, *, is_active: bool, code: str = "") -> None:
        with suppress(RedisError, OSError):
            await self._episodes.set_state(Alert.OAUTH_APP_REFUSED, is_active=is_active, code=code)
            self._is_app_refused = is_active

    async def _set(self, alert: Alert, portal_id: int, *, is_active: bool, code: str = "") -> None:
        with suppress(RedisError, OSError):
            await self._episodes.set_state(
                alert, subject=portal_id, portal_id=portal_id, is_active=is_active, code=code
            )


async def end_token_alerts(redis: Redis, portal_id: int) -> None:
    """End a portal's alerts: it was installed again, disconnected or uninstalled.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    episodes = AlertEpisodes(redis)
    for alert in _OF_PORTALS:
        await episodes.set_state(alert, subject=portal_id, portal_id=portal_id, is_active=False)
