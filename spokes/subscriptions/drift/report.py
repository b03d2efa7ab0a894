"""The drift of a deployment at this moment: observe, then decide. Used by command, doctor, console and alert."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.core.settings import Settings
from spokes.routing import Router
from spokes.subscriptions.drift.arrived_events import arrived_events
from spokes.subscriptions.drift.decider import assess_drift, desired_of
from spokes.subscriptions.drift.findings import Drift, Severity
from spokes.subscriptions.drift.observations import Observations, observe, with_project

PROJECT_FOLDER: Final = Path("hubspot")


@dataclass(frozen=True, slots=True)
class RegistrationState:
    """A registration, its handlers, since when a worker has had it, and its newest event; epoch ms, None if unknown."""

    name: str
    handlers: tuple[str, ...]
    registered_at: int | None
    last_event_at: int | None


@dataclass(frozen=True, slots=True)
class DriftReport:
    """All registrations, and the drifts, the most serious first."""

    registrations: tuple[RegistrationState, ...]
    drifts: tuple[Drift, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether there is nothing but notices."""
        return all(drift.severity is Severity.NOTICE for drift in self.drifts)


async def read_drift(
    settings: Settings, redis: Redis, engine: AsyncEngine, router: Router, *, project: Path = PROJECT_FOLDER
) -> DriftReport:
    """Return the drift; `project` is the folder of the HubSpot project, if there is one.

    Raises:
        ConfigurationError: there are no handlers, or a file of the project cannot be read.
        RedisError, OSError: Redis does not answer.
        AuditUnavailable: the audit store does not answer.
    """
    desired = desired_of(router, settings)
    seen = await observe(settings, redis, engine)
    seen = await asyncio.to_thread(with_project, seen, project, desired)
    return DriftReport(_registration_states(router, seen), tuple(assess_drift(router, settings, desired, seen)))


async def read_registrations(
    settings: Settings, redis: Redis, engine: AsyncEngine, router: Router
) -> tuple[RegistrationState, ...]:
    """Return the registrations alone.

    Raises:
        RedisError, OSError: Redis does not answer.
        AuditUnavailable: the audit store does not answer.
    """
    return _registration_states(router, await observe(settings, redis, engine))


def _registration_states(router: Router, seen: Observations) -> tuple[RegistrationState, ...]:
    handlers: dict[str, list[str]] = {}
    for registration, route in router:
        handlers.setdefault(registration, []).append(route.name)
    arrived = arrived_events(seen.arrivals, router.registrations, recent_from_ms=0)
    states = []
    for name, names in handlers.items():
        time = seen.registrations.get(name)
        times = [at for at in (arrived.last_at.get(name), time.matched_at if time else None) if at is not None]
        states.append(
            RegistrationState(name, tuple(names), time.registered_at if time else None, max(times, default=None))
        )
    return tuple(states)
