"""Open what a worker needs before it claims its first event. What is opened here, the caller's exit stack closes."""

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.background import pause_s
from spokes.core.errors import NotAuthorized
from spokes.core.redis.deployment import claim_database
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.secret_ages import token_fingerprint
from spokes.crm.scopes import log_scope_differences
from spokes.crm.services import CRM
from spokes.handler_declarations import handler_declarations
from spokes.portals.directory import PortalDirectory
from spokes.portals.published_profiles import PublishedProfiles
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.queue.token_scopes import report_scopes
from spokes.routing import Router
from workers.crash_trace import CrashTrace, open_trace
from workers.credentials.installed_portals import InstalledPortals
from workers.delivery.run_delivery import WorkerParts
from workers.upkeep.portal_settings import publish_profiles

_TRACED_CALLS_PER_TASK: Final = 8  # tasks beyond MAX_OBJECTS: see LanePool, and those of handlers that were given up
_PUBLISH_TIMEOUT_S: Final = 5.0  # at start, for the settings of portals in SQL; Redis has a copy of them
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OpenedWorker:
    """What a worker has opened; `directory` has the states of portals if customers can install the app."""

    parts: WorkerParts
    crm: CRM
    pauses: PortalPauses
    directory: PortalDirectory | None
    trace: CrashTrace | None
    outage: RedisOutage


async def open_worker(
    settings: Settings, redis: Redis, router: Router, opening: AsyncExitStack, *, holder: str, outage: RedisOutage,
    is_publisher: bool,
) -> OpenedWorker:  # fmt: skip
    """Open the parts of deliveries, and run lanes.

    Args:
        settings: of the worker.
        redis: its connections.
        router: its handlers.
        opening: closes everything.
        holder: our name, which no other process has.
        outage: shared by everything in this process.
        is_publisher: also copy the settings of portals from SQL to Redis.

    Raises:
        ConfigurationError: the Redis database is another deployment's, or no waiting helps.
    """
    await _claim_database(redis, settings, outage)
    crm, directory = await _open_crm(settings, redis, opening)
    pauses = _open_pauses(settings, redis, crm)
    trace = opening.enter_context(open_trace(settings.data_dir, holder, _TRACED_CALLS_PER_TASK * settings.max_objects))
    profiles = await _read_profiles(settings, redis, is_publisher=is_publisher)
    parts = WorkerParts.start(
        settings, redis, router, crm, pauses, holder=holder, outage=outage, trace=trace, directory=directory,
        profiles=profiles,
    )  # fmt: skip
    opening.push_async_callback(parts.close)
    opening.push_async_callback(parts.refused_token.close)
    return OpenedWorker(parts, crm, pauses, directory, trace, outage)


async def _open_crm(settings: Settings, redis: Redis, opening: AsyncExitStack) -> tuple[CRM, PortalDirectory | None]:
    """Return the CRM, and the states of portals if customers can install the app; `opening` closes them."""
    installed = InstalledPortals.open(settings, redis)
    if installed is None:
        crm = await CRM.open(settings, redis)
        opening.push_async_callback(crm.close)
        return crm, None
    opening.push_async_callback(installed.close)
    crm = await CRM.open(settings, redis, installed.credentials)
    opening.push_async_callback(crm.close)
    await installed.load()
    return crm, installed.directory


async def _read_profiles(settings: Settings, redis: Redis, *, is_publisher: bool) -> PublishedProfiles:
    """Return the settings of portals, read before the first event is claimed."""
    profiles = PublishedProfiles(redis)
    with suppress(RedisError, OSError, TimeoutError):  # they are read again every few seconds
        if is_publisher:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                await publish_profiles(settings, redis)
        await profiles.refresh()
    return profiles


async def _claim_database(redis: Redis, settings: Settings, outage: RedisOutage) -> None:
    """Check that the Redis database is this deployment's; wait out an outage.

    Raises:
        ConfigurationError: it is another deployment's, or no waiting helps.
    """
    while True:
        try:
            await claim_database(redis, settings)
        except (RedisError, OSError) as error:
            await outage.wait(error, "database check")
            outage.raise_if_unusable()
        else:
            outage.mark_available("database check")
            return


async def learn_portal(crm: CRM, router: Router, redis: Redis, outage: RedisOutage) -> None:
    """Wait until HubSpot names the portal of the access token, if there is one: until then, no job may be claimed.

    Raises:
        NotAuthorized: HubSpot does not know the token.
        ConfigurationError: Redis, which paces the question, refuses for good.
    """
    if not crm.token_credentials.has_token:
        return
    failures = 0
    try:
        while (info := await crm.check_token()) is None:
            failures += 1
            if failures == 1:
                log.warning(
                    "token_portal_unknown", advice="HubSpot does not answer; no event is claimed until it does."
                )
            await asyncio.sleep(pause_s(min(failures, 5), random.uniform(0.5, 1.0)))
            outage.raise_if_unusable()  # as a background task has found
        log.info("token_portal", portal_id=info.hub_id, serves=list(crm.token_credentials.portals))
        log_scope_differences(info, handler_declarations(router))
        if info.scopes:
            with suppress(RedisError, OSError):  # the next worker that starts reports them
                await report_scopes(redis, info.hub_id, info.scopes)
    except NotAuthorized:
        with suppress(RedisError, OSError):
            await AlertEpisodes(redis).report_once(Alert.ACCESS_TOKEN_REFUSED)
        raise


def _open_pauses(settings: Settings, redis: Redis, crm: CRM) -> PortalPauses:
    """Return the pauses, which from now on take note of what HubSpot's calls end with."""
    pauses = PortalPauses(redis, crm.accepts_credentials, token=token_fingerprint(settings))
    crm.budget.on_backoff = pauses.record_backoff
    crm.observe_calls(pauses.calls.breaker)
    return pauses
