"""`NightlyReconciliation`: compare the records of the day before, of every portal, in one worker.

Each type of records of each portal is compared once a day: some portals at the same time, each within its own rate
limit, and the types of one portal one after the other. A worker that is killed leaves the lease to another one, which
continues with what is not compared yet.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Final

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.sql.engine import open_engine
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.reconciliation import day_name, is_archived, newest_settled_day, plans_of
from spokes.backfill.reconciliation_parts import allowed_events, reconciliation
from spokes.backfill.record_events import Interval
from spokes.core import clock
from spokes.core.errors import SpokesError
from spokes.core.redis.keys import RECONCILIATION_LEADER, reconciled_day
from spokes.core.redis.leader_lock import LeaderLock
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.crm.services import CRM
from spokes.routing import Router

_LEASE_MS: Final = 15_000
_RENEW_EVERY_S: Final = 3.0
_CHECK_EVERY_S: Final = 30.0
_RETRY_S: Final = 900.0
_KEPT_S: Final = 3 * 86_400
_PORTALS_AT_ONCE: Final = 4  # fewer than the connections of an engine
log = structlog.get_logger()


class NightlyReconciliation:
    """Compares one day after the other; `run` is a background task of every worker."""

    def __init__(self, settings: Settings, redis: Redis, crm: CRM, router: Router) -> None:
        """Call HubSpot with `crm`; the caller closes it and `redis`."""
        self._settings = settings
        self._redis = redis
        self._crm = crm
        self._router = router
        self._plans = tuple(plans_of(router.registrations))
        self._lease = LeaderLock(redis, RECONCILIATION_LEADER, lease_ms=_LEASE_MS)
        self._episodes = AlertEpisodes(redis)
        self._alerted_day: int | None = None  # begin of the day whose state of the alert is set

    async def run(self, outage: RedisOutage, task: str) -> None:
        """Compare until cancelled; `task` is for `outage`.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        engine = open_engine(self._settings.database_address)
        try:
            while True:
                wait_s = _CHECK_EVERY_S
                if await self._lease.is_leader():
                    wait_s = await self._while_leading(self.compare_due(engine))
                outage.mark_available(task)
                await asyncio.sleep(wait_s)
        finally:
            await engine.dispose()

    async def compare_due(self, engine: AsyncEngine) -> float:
        """Compare what is not compared yet of the newest settled day; return the seconds until the next look.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        day = newest_settled_day(clock.now_ms())
        due, error = await self._due(day), ""
        if due and not await is_archived(self._redis, day):
            due, error = [], "audit_backlog"
        error = await self._compare_all(engine, due, day) or error
        if error or due or self._alerted_day != day.since:
            await self._episodes.set_state(
                Alert.RECONCILIATION_FAILED, is_active=bool(error), level="warning", error=error, day=day_name(day)
            )
            self._alerted_day = day.since
        return _RETRY_S if error else _CHECK_EVERY_S

    async def _compare_all(self, engine: AsyncEngine, due: Sequence[tuple[int, BackfillPlan]], day: Interval) -> str:
        """Compare some portals at the same time; return the reason of a failure, an empty text without one.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        portals: dict[int, list[BackfillPlan]] = {}
        for portal_id, plan in due:
            portals.setdefault(portal_id, []).append(plan)
        waiting, errors = iter(portals.items()), [""]

        async def compare_waiting() -> None:
            for portal_id, plans in waiting:
                for plan in plans:
                    try:
                        await self._compare(engine, portal_id, plan, day)
                    except SpokesError as failure:
                        errors.append(failure.reason)
                        log.warning(
                            "reconciliation_failed", portal_id=portal_id, object_type=plan.object_type,
                            error=failure.reason,
                        )  # fmt: skip

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(_PORTALS_AT_ONCE, len(portals))):
                    tasks.create_task(compare_waiting())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return errors[-1]

    async def _due(self, day: Interval) -> list[tuple[int, BackfillPlan]]:
        served = set(self._settings.portal_ids)
        portals = sorted(portal for portal in self._crm.credentials.portals if not served or portal in served)
        pairs = [(portal_id, plan) for portal_id in portals for plan in self._plans]
        names = [reconciled_day(portal_id, plan.object_type) for portal_id, plan in pairs]
        done = await self._redis.mget(names) if names else []
        return [pair for pair, last in zip(pairs, done, strict=True) if last != day_name(day).encode()]

    async def _compare(self, engine: AsyncEngine, portal_id: int, plan: BackfillPlan, day: Interval) -> None:
        allowed = await allowed_events(self._settings, self._redis, self._router)
        parts = reconciliation(self._settings, self._redis, engine, self._crm)
        await parts.compare(portal_id, plan, day, allowed.for_portal(portal_id))
        await self._redis.set(reconciled_day(portal_id, plan.object_type), day_name(day), ex=_KEPT_S)

    async def _while_leading(self, work: Coroutine[None, None, float]) -> float:
        """Return the result of `work`; cancel it when another worker has the lease."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_RENEW_EVERY_S))[0]:
                if not await self._lease.is_leader():
                    return _CHECK_EVERY_S
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
