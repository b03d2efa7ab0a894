"""Alert while events that handlers wait for do not come."""

from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.routing import load_router
from spokes.subscriptions.drift.findings import Severity
from spokes.subscriptions.drift.report import read_drift

_NAMED: Final = 10


async def watch_subscriptions(settings: Settings, redis: Redis, engine: AsyncEngine, episodes: AlertEpisodes) -> None:
    """Set the state of the alert.

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
