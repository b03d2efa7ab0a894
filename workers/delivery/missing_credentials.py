"""Set aside deliveries of portals that this worker has no credentials for. None of their handlers is called.

If another live worker has the credentials, the delivery is left to it. Otherwise its events are parked for a day,
without a spent attempt and with one alert per portal, and then become dead letters. A worker that has the credentials
makes parked deliveries due again.
"""

import time
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.delivery import Delivery
from spokes.core.redis import keys
from spokes.core.redis.scripts import read_script
from spokes.core.telemetry.alerts import Alert
from spokes.crm.transport.credentials import Credentials
from workers.credentials.refused_token import RefusedToken
from workers.delivery.delivery_run import DeliveryRun
from workers.delivery.resolution import NO_CREDENTIALS, NO_CREDENTIALS_PARK_S, NO_CREDENTIALS_PARKED
from workers.queue.claimed_job import DeliveryEnd
from workers.queue.crash_loops import settled_keys

ANNOUNCE_EVERY_S: Final = 5.0
_SCRIPT: Final = read_script(__file__, "release_parked.lua")
_LIVE_S: Final = 15.0  # after its last announcement, another worker counts as running
_KEEP_S: Final = 7 * 86_400  # announcements, for doctor
_PARK_MS: Final = round(NO_CREDENTIALS_PARK_S * 1000)


class MissingCredentials:
    """The portals that this worker serves, and what becomes of the deliveries of others."""

    def __init__(self, redis: Redis, credentials: Credentials, refused_token: RefusedToken | None = None) -> None:
        self._redis = redis
        self._credentials = credentials
        self._refused_token = refused_token
        self._episodes = AlertEpisodes(redis)
        self._script = redis.register_script(_SCRIPT)
        self._served_elsewhere: dict[int, float] = {}  # until when, in seconds of the monotonic clock

    def concern(self, portal_id: int) -> bool:
        """Return whether the portal's events must not run in this process."""
        return portal_id not in self._credentials.portals

    def served_elsewhere(self) -> list[int]:
        """Return the portals whose deliveries are left to other workers for now."""
        stopped = self._refused_token.stopped_portals if self._refused_token else []
        if not self._served_elsewhere:
            return stopped
        now = time.monotonic()
        self._served_elsewhere = {portal: until for portal, until in self._served_elsewhere.items() if until > now}
        return [*self._served_elsewhere, *stopped]

    async def announce(self) -> None:
        """Record which portals this worker serves, and make their parked deliveries due."""
        now_s = time.time()
        for portal_id in self._credentials.portals:
            released = await self._script(
                keys=[
                    keys.parked_deliveries(portal_id),
                    keys.CREDENTIAL_PORTALS,
                    keys.WAKE_CHANNEL,
                    *keys.QUEUES.values(),
                ],
                args=[clock.now_ms(), portal_id, now_s, now_s - _KEEP_S],
            )
            if released or await self._episodes.active(f"{Alert.NO_CREDENTIALS}:{portal_id}"):
                await self._set_alert(portal_id, is_active=False)

    async def set_aside(self, run: DeliveryRun) -> DeliveryEnd:
        """Leave a delivery to another worker, park its events, or after a day end them as dead letters."""
        delivery = run.delivery
        if self._refused_token and delivery.portal_id in self._refused_token.stopped_portals:
            return DeliveryEnd.HELD_ELSEWHERE
        if await self._is_served_elsewhere(delivery.portal_id):
            self._served_elsewhere[delivery.portal_id] = time.monotonic() + _LIVE_S
            return DeliveryEnd.HELD_ELSEWHERE
        parked_at = await self._redis.zscore(keys.parked_deliveries(delivery.portal_id), delivery.id)
        if parked_at is not None and clock.now_ms() < parked_at + _PARK_MS:  # made due, and its worker has gone since
            for queue in keys.QUEUES.values():
                await self._redis.zadd(queue, {delivery.id: parked_at + _PARK_MS}, xx=True)
            return DeliveryEnd.HELD_ELSEWHERE
        await self._set_alert(delivery.portal_id, is_active=True)
        settled = await settled_keys(self._redis, delivery)
        run.resolve_unsettled(settled, NO_CREDENTIALS_PARKED if parked_at is None else NO_CREDENTIALS)
        if not await run.finished():
            return DeliveryEnd.HELD_ELSEWHERE
        if parked_at is not None:
            await self._forget_parked(delivery)
        return DeliveryEnd.CLOSED

    async def _is_served_elsewhere(self, portal_id: int) -> bool:
        announced_s = await self._redis.zscore(keys.CREDENTIAL_PORTALS, str(portal_id))
        return announced_s is not None and announced_s > time.time() - _LIVE_S

    async def _forget_parked(self, delivery: Delivery) -> None:
        parked = keys.parked_deliveries(delivery.portal_id)
        await self._redis.zrem(parked, delivery.id)
        if not await self._redis.zcard(parked):
            await self._set_alert(delivery.portal_id, is_active=False)

    async def _set_alert(self, portal_id: int, *, is_active: bool) -> None:
        await self._episodes.set_state(
            Alert.NO_CREDENTIALS, subject=portal_id, portal_id=portal_id, is_active=is_active
        )
