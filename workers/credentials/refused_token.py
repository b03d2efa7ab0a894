"""Stop this worker's work for a portal while HubSpot refuses its access token and another worker's token is accepted.

While a token is renewed, some workers still have the old one. Such a worker claims nothing for the portal, and its
unfinished events go to the others. It checks its token at growing intervals and continues once HubSpot accepts it. If
no live worker has another token that is not refused, the portal is paused instead: see `PortalPauses`.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.errors import NotAuthorized
from spokes.core.telemetry.alerts import Alert
from spokes.crm.transport.credentials import TokenCredentials
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.queue.token_reports import TokenReports

CHECK_EVERY_S: Final = 1.0  # whether a check of a refused token is due
_FIRST_CHECK_S: Final = 5.0
_LONGEST_CHECK_S: Final = 60.0
_ANSWER_VALID_S: Final = 5.0  # of HubSpot to whether it accepts the token after a 401: many calls fail at once
_RELAPSE_S: Final = 600.0  # a token refused so soon after it was accepted is checked more rarely still
log = structlog.get_logger()


def check_delay_s(failures: int) -> float:
    """Return the seconds until a token is checked again, after this many refusals."""
    return min(_LONGEST_CHECK_S, _FIRST_CHECK_S * 2.0 ** min(max(failures - 1, 0), 10))


class RefusedToken:
    """Whether HubSpot refuses this worker's token, and what follows from it."""

    def __init__(
        self,
        redis: Redis,
        credentials: TokenCredentials,
        pauses: PortalPauses,
        check_token: Callable[[], Awaitable[object | None]],
        *,
        fingerprint: str,
        worker: str,
    ) -> None:
        """Report as `worker`; `check_token` returns None if HubSpot does not answer, and raises NotAuthorized."""
        self._credentials = credentials
        self._pauses = pauses
        self._check_token = check_token
        self._fingerprint = fingerprint
        self._worker = worker
        self._reports = TokenReports(redis)
        self._episodes = AlertEpisodes(redis)
        self._changing = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._was_accepted = False
        self._ask_again = 0.0  # in seconds of the monotonic clock, as the next times
        self._failures = 0
        self._next_check = 0.0
        self._accepted_at = -_RELAPSE_S

    @property
    def is_refused(self) -> bool:
        """Whether this worker leaves its portal's events to other workers."""
        return self._credentials.is_refused

    @property
    def stopped_portals(self) -> list[int]:
        """The portals whose events are left to other workers because HubSpot refuses our token."""
        return list(self._credentials.token_portals) if self.is_refused else []

    async def stop(self, portal_id: int) -> bool:
        """After a 401, stop working for the portal if another worker can; return whether this worker has stopped."""
        async with self._changing:
            if self.is_refused:
                return True
            if not await self._is_served_elsewhere(portal_id):
                return False
            if time.monotonic() - self._accepted_at >= _RELAPSE_S:
                self._failures = 0
            self._credentials.is_refused = True
            self._pauses.note_refusal(portal_id)
            self._schedule_check()
            log.warning("token_refused_work_stopped", portal_id=portal_id, fingerprint=self._fingerprint)
            await self._put_report(portal_id)
            await self._set_alert(portal_id, self._fingerprint, is_active=True)
            return True

    async def is_call_refused(self, portal_id: int) -> bool:
        """Return whether a 401 concerns the call alone: HubSpot accepts the token, and a pause did not help before."""
        if not self._pauses.was_refused_lately(portal_id):
            return False
        async with self._asking:
            if time.monotonic() >= self._ask_again:
                try:
                    self._was_accepted = await self._check_token() is not None
                except NotAuthorized:
                    self._was_accepted = False
                self._ask_again = time.monotonic() + _ANSWER_VALID_S
            if self._was_accepted:
                self._pauses.note_refusal(portal_id)
            return self._was_accepted

    async def report(self) -> None:
        """Report our token, end alerts of workers that are gone, pause the portal if no other worker serves it."""
        for portal_id in self._credentials.token_portals:
            async with self._changing:
                if self.is_refused and not await self._is_served_elsewhere(portal_id):
                    self._credentials.is_refused = False  # the portal's pause ends when a worker's token is accepted
                    await self._pauses.pause(portal_id, NotAuthorized.reason)
                await self._put_report(portal_id)
                if self.is_refused:  # again: an outage of Redis may have prevented it in `stop`
                    await self._set_alert(portal_id, self._fingerprint, is_active=True)
                await self._end_alerts(portal_id)

    async def check(self) -> None:
        """Check a refused token if that is due; continue to work for its portal if HubSpot accepts it."""
        if not self.is_refused or time.monotonic() < self._next_check:
            return
        try:
            is_accepted = await self._check_token() is not None
        except NotAuthorized:
            is_accepted = False
        async with self._changing:
            if not is_accepted:
                self._schedule_check()
                return
            self._credentials.is_refused = False
            self._accepted_at = time.monotonic()
            for portal_id in self._credentials.token_portals:
                log.info("token_accepted_again", portal_id=portal_id, fingerprint=self._fingerprint)
                await self._put_report(portal_id)
                await self._end_alerts(portal_id)

    async def close(self) -> None:
        """Delete our report, so that no worker relies on us."""
        with suppress(RedisError, OSError):  # it expires
            for portal_id in self._credentials.token_portals:
                await self._reports.remove(portal_id, self._worker)

    def _schedule_check(self) -> None:
        self._failures += 1
        self._next_check = time.monotonic() + check_delay_s(self._failures) * random.uniform(0.8, 1.0)

    async def _is_served_elsewhere(self, portal_id: int) -> bool:
        """Return whether a live worker has another token, which is not refused; the same token is refused there too."""
        return any(
            not report.is_refused and report.fingerprint != self._fingerprint
            for report in await self._reports.live(portal_id)
        )

    async def _put_report(self, portal_id: int) -> None:
        await self._reports.put(portal_id, self._worker, self._fingerprint, is_refused=self.is_refused)

    async def _end_alerts(self, portal_id: int) -> None:
        """End the alerts of tokens that no live worker has stopped for."""
        prefix = f"{Alert.WORKER_TOKEN_REFUSED}:{portal_id}:"
        active = await self._episodes.active(prefix)  # before the reports, which are written before their alert
        if not active:
            return
        refused = {report.fingerprint for report in await self._reports.live(portal_id) if report.is_refused}
        for fingerprint in {name.removeprefix(prefix) for name in active} - refused:
            await self._set_alert(portal_id, fingerprint, is_active=False)

    async def _set_alert(self, portal_id: int, fingerprint: str, *, is_active: bool) -> None:
        await self._episodes.set_state(
            Alert.WORKER_TOKEN_REFUSED, subject=f"{portal_id}:{fingerprint}", portal_id=portal_id, is_active=is_active,
            fingerprint=fingerprint,
        )  # fmt: skip
