"""What is known about the events that arrive; read in one place, so that everything that decides on it is pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.core import clock
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.intake.arrivals import DAY_MS, StoredArrivals, read_arrivals
from spokes.portals.store import PortalState, PortalStore
from spokes.queue.registration_times import RegistrationTime, registration_times
from spokes.queue.token_scopes import reported_scopes
from spokes.subscriptions.desired_state import DesiredState
from spokes.subscriptions.project.export import active_events, export_to_project
from spokes.subscriptions.project.project_files import has_project, read_project
from spokes.subscriptions.push.ledger import PushLedger

DAYS: Final = 28  # that are looked at
RECENT_DAYS: Final = 7
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Observations:
    """What is known at one moment.

    Attributes:
        now_ms: that moment.
        arrivals: what arrived in the last four weeks; `ignored` and `unserved` in the last week.
        registrations: since when a worker has had each registration, and since when an event has matched it.
        scopes: the granted scopes, by `portal 50112233` or whatever holds them.
        owned: the events of subscriptions that Spokes created.
        subscribed: the events of all subscriptions that are known without a call to HubSpot.
        project_changes: what an export would change in the HubSpot project.
    """

    now_ms: int
    arrivals: StoredArrivals = field(default_factory=StoredArrivals)
    registrations: Mapping[str, RegistrationTime] = field(default_factory=dict)
    scopes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    owned: frozenset[str] = frozenset()
    subscribed: frozenset[str] = frozenset()
    project_changes: Mapping[str, str] = field(default_factory=dict)


async def observe(settings: Settings, redis: Redis, engine: AsyncEngine) -> Observations:
    """Read everything but the HubSpot project.

    Raises:
        RedisError, OSError: Redis does not answer.
        AuditUnavailable: the audit store does not answer.
    """
    now_ms = clock.now_ms()
    today = now_ms // DAY_MS
    arrivals = await read_arrivals(redis, range(today - DAYS + 1, today + 1), recent_days=RECENT_DAYS)
    owned = frozenset[str]()
    if settings.hubspot_app_id:
        entries = await PushLedger.from_settings(settings, engine, "").read()
        owned = frozenset(name for name, entry in entries.items() if entry.subscription_id is not None)
    return Observations(
        now_ms=now_ms,
        arrivals=arrivals,
        registrations=await registration_times(redis),
        scopes=await _granted_scopes(settings, redis, engine),
        owned=owned,
        subscribed=owned,
    )


def with_project(seen: Observations, folder: Path, desired: DesiredState) -> Observations:
    """Add what the files of a HubSpot project say, if there is one in the folder.

    Raises:
        ConfigurationError: a file cannot be read or used.
    """
    if not has_project(folder):
        return seen
    project = read_project(folder, name=folder.name, auth="static")
    subscribed, written = active_events(project.webhooks.document), project.written.events
    try:
        changes = export_to_project(project, desired).changes
    except ConfigurationError as error:
        return replace(seen, project_changes=dict.fromkeys(error.problems, ""))
    return replace(
        seen,
        subscribed=seen.subscribed | subscribed,
        owned=seen.owned | (written & subscribed),
        project_changes={f"{change.sign} {change.subject}": _first(change.reasons) for change in changes},
    )


async def _granted_scopes(settings: Settings, redis: Redis, engine: AsyncEngine) -> dict[str, frozenset[str]]:
    granted = {f"portal {portal_id}": scopes for portal_id, scopes in (await reported_scopes(redis)).items()}
    if not settings.hubspot_client_id:
        return granted
    store = PortalStore(engine, Vault.from_settings(settings))
    after = 0
    while portals := await store.list(after=after, limit=_PAGE):
        after = portals[-1].portal_id
        granted |= {
            f"portal {portal.portal_id}": frozenset(portal.scopes)
            for portal in portals
            if portal.state is PortalState.INSTALLED
        }
    return granted


def _first(reasons: Iterable[str]) -> str:
    return next(iter(reasons), "")
