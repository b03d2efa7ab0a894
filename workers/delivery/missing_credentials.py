"""Set aside deliveries of portals that this worker has no credentials for. None of their handlers is called.

If another live worker has the credentials, the delivery is left to it. Otherwise its events are parked for a day,
without a spent attempt and with one alert per portal, and then become dead letters. A portal that needs a reinstall has
its own alert, and no second one. A worker that has the credentials
makes parked deliveries due again. Events of a portal that removed the app are discarded.
"""

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.delivery import Delivery
from spokes.core.redis import keys
from spokes.core.redis.scripts import read_script
from spokes.core.telemetry.alerts import Alert
from spokes.crm.transport.credentials import Credentials
from spokes.intake.portal_events import PORTAL_INSTALLED, PORTAL_UNINSTALLED
from spokes.portals.directory import PortalDirectory
from spokes.queue.pauses.portal_pauses import PortalPauses
from workers.credentials.refused_token import RefusedToken
from workers.delivery.delivery_run import DeliveryRun
from workers.lanes.resolution import NO_CREDENTIALS, NO_CREDENTIALS_PARK_S, NO_CREDENTIALS_PARKED, UNINSTALLED
from workers.queue.claimed_job import DeliveryEnd
from workers.queue.crash_loops import settled_keys

ANNOUNCE_EVERY_S: Final = 5.0
_SCRIPT: Final = read_script(__file__, "release_parked.lua")
_ANNOUNCE_SCRIPT: Final = read_script(__file__, "announce_portals.lua")
_PORTALS_PER_SCRIPT: Final = 500  # so that no script keeps Redis busy for a millisecond
_LIVE_S: Final = 15.0  # after its last announcement, another worker counts as running
_KEEP_S: Final = 7 * 86_400  # announcements, for doctor
_PARK_MS: Final = round(NO_CREDENTIALS_PARK_S * 1000)


def is_uninstall(run: DeliveryRun) -> bool:
    """Return whether a delivery tells handlers that a portal removed the app: they run without its credentials."""
    return bool(run.items) and all(item.event.type == PORTAL_UNINSTALLED for item in run.items)


def is_install(run: DeliveryRun) -> bool:
    """Return whether a delivery tells handlers of an install only, which is queued before its tokens are stored."""
    return bool(run.items) and all(item.event.type == PORTAL_INSTALLED for item in run.items)


class MissingCredentials:
    """The portals that this worker serves, and what becomes of the deliveries of others."""

    def __init__(
        self,
        redis: Redis,
        credentials: Credentials,
        refused_token: RefusedToken | None = None,
        directory: PortalDirectory | None = None,
    ) -> None:
        self._redis = redis
        self._directory = directory
        self._credentials = credentials
        self._refused_token = refused_token
        self._episodes = AlertEpisodes(redis)
        self._pauses = PortalPauses(redis)
        self._script = redis.register_script(_SCRIPT)
        self._announce_script = redis.register_script(_ANNOUNCE_SCRIPT)
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
        served = list(self._credentials.portals)
        parked = await self._announce(served, has_credentials=True)
        if self._directory is not None:  # events that were parked before the app was removed: they are discarded
            parked |= await self._announce([*self._directory.uninstalled], has_credentials=False)
            await self._end_pauses(self._directory.uninstalled)
        alerts = {
            name.partition(":")[2]
            for alert in (Alert.NO_CREDENTIALS, Alert.NEEDS_REINSTALL)
            for name in await self._episodes.active(f"{alert}:")
        }
        if alerts:
            known = [*served, *(self._directory.uninstalled if self._directory else ())]
            parked |= {portal_id for portal_id in known if str(portal_id) in alerts}
        await self._redis.zremrangebyscore(keys.CREDENTIAL_PORTALS, "-inf", time.time() - _KEEP_S)
        for portal_id in parked:
            if not await self._is_settled(portal_id):
                continue
            await self._script(
                keys=[keys.parked_deliveries(portal_id), keys.WAKE_CHANNEL, *keys.QUEUES.values()],
                args=[clock.now_ms()],
            )
            await self._end_alerts(portal_id)

    async def _is_settled(self, portal_id: int) -> bool:
        """Return whether the store confirms that nothing waits for the portal's credentials.

        What we have read may be some seconds old: another worker may have learnt since that it needs a reinstall.
        """
        if self._directory is None:
            return True
        if portal_id not in self._directory.installed and portal_id not in self._directory.uninstalled:
            return not self.concern(portal_id)  # that of the access token
        is_read = await self._directory.refresh_one(portal_id)
        return is_read and (portal_id in self._directory.uninstalled or not self.concern(portal_id))

    async def _end_pauses(self, portals: AbstractSet[int]) -> None:
        """End the pauses of portals that removed the app, and make due what waits for the end of one."""
        if not portals:
            return
        for portal_id in portals & (await self._pauses.list()).keys():
            await self._pauses.resume(portal_id)
        for calls in await self._pauses.calls.held.waited_for():
            if calls.portal_id in portals:
                await self._pauses.calls.held.release(calls)

    async def _announce(self, portals: Sequence[int], *, has_credentials: bool) -> set[int]:
        """Record that we have, or do not have, the credentials of portals; return those with parked deliveries."""
        parked: set[int] = set()
        for start in range(0, len(portals), _PORTALS_PER_SCRIPT):
            chunk = portals[start : start + _PORTALS_PER_SCRIPT]
            parked_keys = [keys.parked_deliveries(portal_id) for portal_id in chunk]
            found = await self._announce_script(
                keys=[keys.CREDENTIAL_PORTALS, *parked_keys], args=[time.time(), int(has_credentials), *chunk]
            )
            parked.update(map(int, found))
        return parked

    async def set_aside(self, run: DeliveryRun) -> DeliveryEnd:  # noqa: PLR0911 - one for each case
        """Leave a delivery to another worker, park its events, or after a day end them as dead letters."""
        delivery = run.delivery
        if self._directory is not None:
            await self._directory.refresh_one(delivery.portal_id)
            if delivery.portal_id in self._directory.uninstalled:
                return await self._discard(run)
        if not self.concern(delivery.portal_id):  # it was installed a moment ago
            return DeliveryEnd.HELD_ELSEWHERE
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
        if not is_install(run):
            await self._begin_alert(delivery.portal_id)
        settled = await settled_keys(self._redis, delivery)
        run.resolve_unsettled(settled, NO_CREDENTIALS_PARKED if parked_at is None else NO_CREDENTIALS)
        if not await run.finished():
            return DeliveryEnd.HELD_ELSEWHERE
        if parked_at is not None:
            await self._forget_parked(delivery)
        return DeliveryEnd.CLOSED

    async def _discard(self, run: DeliveryRun) -> DeliveryEnd:
        """Discard the events of a portal that removed the app."""
        run.resolve_unsettled(await settled_keys(self._redis, run.delivery), UNINSTALLED)
        if not await run.finished():
            return DeliveryEnd.HELD_ELSEWHERE
        await self._forget_parked(run.delivery)
        return DeliveryEnd.CLOSED

    async def _is_served_elsewhere(self, portal_id: int) -> bool:
        announced_s = await self._redis.zscore(keys.CREDENTIAL_PORTALS, str(portal_id))
        return announced_s is not None and announced_s > time.time() - _LIVE_S

    async def _forget_parked(self, delivery: Delivery) -> None:
        parked = keys.parked_deliveries(delivery.portal_id)
        await self._redis.zrem(parked, delivery.id)
        if not await self._redis.zcard(parked):
            await self._episodes.set_state(
                Alert.NO_CREDENTIALS, subject=delivery.portal_id, portal_id=delivery.portal_id, is_active=False
            )

    async def _begin_alert(self, portal_id: int) -> None:
        """Begin the portal's alert; that of a reinstall is active already, unless Redis did not answer at its time."""
        needs_reinstall = self._directory is not None and portal_id in self._directory.needs_reinstall
        alert = Alert.NEEDS_REINSTALL if needs_reinstall else Alert.NO_CREDENTIALS
        await self._episodes.set_state(alert, subject=portal_id, portal_id=portal_id, is_active=True)

    async def _end_alerts(self, portal_id: int) -> None:
        for alert in (Alert.NO_CREDENTIALS, Alert.NEEDS_REINSTALL):
            await self._episodes.set_state(alert, subject=portal_id, portal_id=portal_id, is_active=False)
