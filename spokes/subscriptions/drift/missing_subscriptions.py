"""The time in which HubSpot had no subscription for events that handlers wait for: a gap of these events.

A worker notices that events stopped or never arrived (workers.upkeep.gaps.subscription_watch).
`spokes subscriptions apply` and `spokes subscriptions journal apply` create what was missing.
"""

from collections.abc import Collection, Iterable, Mapping

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.core.events import GENERIC_NAME, JOURNAL_NAME
from spokes.core.settings import Settings
from spokes.gaps.gap import GapCause, MissedInterval, scopes_of
from spokes.gaps.ledger import GapLedger
from spokes.queue.known_portals import known_portals
from spokes.routing import Router
from spokes.subscriptions.drift.arrived_events import matching_registration
from spokes.subscriptions.drift.observations import Observations
from spokes.subscriptions.drift.report import RegistrationState
from spokes.subscriptions.journal.missing_events import AwaitedEvents
from spokes.subscriptions.subscribed_events import SubscribedEvent, parse_event


def missing_from(states: Collection[RegistrationState], names: Collection[str]) -> dict[str, int]:
    """Return from when on these events are missing (epoch ms). Pure.

    That is the newest event of their registration, or when a worker first had it. An event whose registration no worker
    has had yet is left out.
    """
    times = {state.name: state.last_event_at or state.registered_at for state in states}
    registrations = {name: matching_registration(parse_event(name), times.keys()) for name in names}
    found = {name: times[registration] for name, registration in registrations.items() if registration is not None}
    return {name: at for name, at in found.items() if at is not None}


async def report_missing(
    settings: Settings,
    redis: Redis,
    engine: AsyncEngine,
    since: Mapping[str, int],
    *,
    until: int,
    served: Collection[int] = (),
) -> None:
    """Report a gap of each event, from its time in `since` on (epoch ms), in all portals: known ones and `served`.

    Raises:
        RedisError, OSError: Redis does not answer.
        AuditUnavailable: the audit store does not answer.
    """
    portals = await known_portals(redis) | {*settings.portal_ids, *served}
    ledger = GapLedger.from_settings(settings, engine)
    for name, begin in since.items():
        for scope in scopes_of([name]):
            missed = MissedInterval(since=begin, until=until, cause=GapCause.SUBSCRIPTION_MISSING, scope=scope)
            await ledger.report(missed, portals=portals)


async def report_missing_in_portals(
    settings: Settings, engine: AsyncEngine, missing: Iterable[tuple[int, str, int]], *, until: int
) -> None:
    """Report gaps of single portals: of each portal and event, from a time on (epoch ms).

    Raises:
        AuditUnavailable: the audit store does not answer.
    """
    begins: dict[tuple[str, int], int] = {}
    for portal_id, name, begin in missing:
        for scope in scopes_of([name]):
            begins[scope, portal_id] = min(begin, begins.get((scope, portal_id), begin))
    portals: dict[tuple[str, int], set[int]] = {}
    for (scope, portal_id), begin in begins.items():
        portals.setdefault((scope, begin), set()).add(portal_id)
    ledger = GapLedger.from_settings(settings, engine)
    for (scope, begin), portal_ids in portals.items():
        missed = MissedInterval(since=begin, until=until, cause=GapCause.SUBSCRIPTION_MISSING, scope=scope)
        await ledger.report(missed, portals=portal_ids)


def awaited_events(
    events: Collection[SubscribedEvent], router: Router, seen: Observations, installed_at: Mapping[int, int]
) -> AwaitedEvents:
    """Return since when the journal's events have been awaited. Pure.

    Args:
        events: that the handlers register for.
        router: of the handlers.
        seen: what is known about the events that arrive.
        installed_at: when each portal installed the app, epoch ms.
    """
    pushed_at: dict[str, int] = {}
    for spelled, times in seen.arrivals.at.items():
        if not spelled.endswith(JOURNAL_NAME):
            event = parse_event(spelled.removesuffix(GENERIC_NAME))
            name = matching_registration(event, {*map(str, events)})
            if name is not None:
                pushed_at[name] = max(pushed_at.get(name, 0), *times)
    registered_at = {}
    for event in events:
        registration = matching_registration(event, router.registrations)
        if registration is not None and registration in seen.registrations:
            registered_at[str(event)] = seen.registrations[registration].registered_at
    return AwaitedEvents(registered_at, installed_at, seen.subscribed, pushed_at)
