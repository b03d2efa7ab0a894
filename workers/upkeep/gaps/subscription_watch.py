"""Alert while events that handlers wait for do not come, and report the time without them as a gap."""

from collections.abc import Collection
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.json_reading.json_fields import read_bigint
from spokes.core.redis.keys import STOPPED_EVENTS
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.routing import load_router
from spokes.subscriptions.drift.findings import DriftKind, Severity
from spokes.subscriptions.drift.missing_subscriptions import missing_from, report_missing
from spokes.subscriptions.drift.report import DriftReport, read_drift

_NAMED: Final = 10
_MISSING: Final = frozenset({DriftKind.STOPPED, DriftKind.NEVER_ARRIVED})  # no subscription is known


async def watch_subscriptions(
    settings: Settings, redis: Redis, engine: AsyncEngine, episodes: AlertEpisodes, served: Collection[int] | None
) -> None:
    """Set the state of the alert, and report what has been missing since the last time.

    Args:
        served: the portals that this worker has credentials for; None, not known yet: reports come later.

    Raises:
        RedisError, OSError: Redis does not answer.
        AuditUnavailable: the audit store does not answer.
        ConfigurationError: a file of the HubSpot project cannot be read.
    """
    router = load_router(settings.handlers)
    if not router.registrations:
        return
    report = await read_drift(settings, redis, engine, router)
    faults = [drift for drift in report.drifts if drift.severity is Severity.FAULT]
    subjects = [subject for drift in faults for subject in drift.subjects]
    await episodes.set_state(
        Alert.SUBSCRIPTIONS_DRIFTED, is_active=bool(faults), level="warning",
        drifts=[drift.kind.value for drift in faults], subjects=subjects[:_NAMED], count=len(subjects),
    )  # fmt: skip
    names = {subject for drift in faults if drift.kind in _MISSING for subject in drift.subjects}
    if served is not None:
        await _report_missing(settings, redis, engine, report, names, served=served)


async def _report_missing(
    settings: Settings,
    redis: Redis,
    engine: AsyncEngine,
    report: DriftReport,
    missing: Collection[str],
    *,
    served: Collection[int],
) -> None:
    """Report what is not reported yet: a part that a backfill has closed since stays closed."""
    now = clock.now_ms()
    fields: dict[bytes, bytes] = await redis.hgetall(STOPPED_EVENTS)  # type: ignore[misc]  # redis-py types one class for sync and async
    reported = {name.decode(errors="replace"): read_bigint(at.decode(errors="replace")) for name, at in fields.items()}
    known = {state.name for state in report.registrations}
    ended = {name: at for name, at in reported.items() if name not in missing and name in known and at is not None}
    since = missing_from(report.registrations, missing)
    since |= {name: at for name, at in reported.items() if name in missing and at is not None}
    await report_missing(settings, redis, engine, since | ended, until=now, served=served)
    async with redis.pipeline(transaction=True) as pipeline:
        for name in reported.keys() - since.keys():
            pipeline.hdel(STOPPED_EVENTS, name)
        for name in since:
            pipeline.hset(STOPPED_EVENTS, name, str(now))
        await pipeline.execute()
