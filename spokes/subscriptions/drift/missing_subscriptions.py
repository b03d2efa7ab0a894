"""The time in which HubSpot was not told to send events that handlers wait for: a gap of these events.

A worker notices that events stopped (workers.upkeep.subscription_watch), and `spokes subscriptions apply` creates what
was missing.
"""

from collections.abc import Collection, Mapping

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.core.settings import Settings
from spokes.gaps.gap import GapCause, MissedInterval, scopes_of
from spokes.gaps.ledger import GapLedger
from spokes.queue.known_portals import known_portals
from spokes.subscriptions.drift.report import RegistrationState


def missing_from(states: Collection[RegistrationState], names: Collection[str]) -> dict[str, int]:
    """Return from when on events of these registrations are missing (epoch ms). Pure.

    That is their newest event, or when a worker first had the registration. One that no worker has had yet is left out.
    """
    times = {state.name: state.last_event_at or state.registered_at for state in states if state.name in names}
    return {name: at for name, at in times.items() if at is not None}


async def report_missing(
    settings: Settings, redis: Redis, engine: AsyncEngine, since: Mapping[str, int], *, until: int
) -> None:
    """Report a gap of each registration, from its time in `since` on (epoch ms), in all portals.

    Raises:
        RedisError, OSError: Redis does not answer.
        AuditUnavailable: the audit store does not answer.
    """
    portals = await known_portals(redis) | set(settings.portal_ids)
    ledger = GapLedger.from_settings(settings, engine)
    for name, begin in since.items():
        for scope in scopes_of([name]):
            missed = MissedInterval(since=begin, until=until, cause=GapCause.SUBSCRIPTION_MISSING, scope=scope)
            await ledger.report(missed, portals=portals)
