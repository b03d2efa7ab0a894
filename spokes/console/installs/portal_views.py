"""The portals that installed the app, with what operators need to know of each: scopes, backlog, dead letters.

Everything is read in a few calls for all portals together, so that thousands can be sorted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.console.queries.budgets import budget_of
from spokes.console.queries.portal_scope import Portals, can_see
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.redis.scripts import read_script
from spokes.core.settings import Settings
from spokes.crm.scopes import ScopeRequirement, compare_scopes
from spokes.portals.portal_backlog import PortalBacklog, portal_backlogs
from spokes.portals.store import InstalledPortal, PortalState, PortalStore
from spokes.queue.pauses.portal_pauses import PortalPauses

_SCRIPT: Final = read_script(__file__, "cardinalities.lua")
_KEYS_PER_SCRIPT: Final = 500  # so that no script keeps Redis busy for a millisecond
_PAGE: Final = 1000  # portals read from the store at a time
_MAX_RECORDS_READ: Final = 50_000  # newest audit records in which the last event of each portal is searched


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalView:
    """One installed portal; times are epoch ms.

    `state` is `paused` for an installed portal whose work is paused; `reason` says why it is not installed.
    `last_event_at` is the newest outcome of an event, None if it is not among the newest audit records. `backlog`
    counts deliveries in the queue, `parked` those that wait for the portal's tokens, and `lag_s` is for how long the
    first delivery has been due. `token_expires_at` is 0 without tokens. `calls_used` of `calls_limit` calls were made
    in the last ten seconds; both are None in lists that were not asked for them.
    """

    portal_id: int
    name: str
    state: str
    reason: str
    scopes_missing: tuple[str, ...]
    scopes_excess: tuple[str, ...]
    installed_at: int
    changed_at: int
    token_expires_at: int
    last_event_at: int | None
    backlog: int
    parked: int
    lag_s: float
    dead_letters: int
    calls_used: int | None = None
    calls_limit: int | None = None


SORTS: Final[Mapping[str, Callable[[PortalView], tuple[Any, ...]]]] = {
    "portal": lambda view: (view.portal_id,),
    "name": lambda view: (view.name.casefold(), view.portal_id),
    "installed": lambda view: (-view.installed_at, view.portal_id),
    "last_event": lambda view: (-(view.last_event_at or 0), view.portal_id),
    "backlog": lambda view: (-view.backlog - view.parked, view.portal_id),
    "lag": lambda view: (-view.lag_s, view.portal_id),
    "dead_letters": lambda view: (-view.dead_letters, view.portal_id),
    "token": lambda view: (view.token_expires_at, view.portal_id),
}


async def installed_portals(
    store: PortalStore, redis: Redis, engine: AsyncEngine, portals: Portals, required: frozenset[ScopeRequirement],
    *, optional: Iterable[str] = (), only: int | None = None,
) -> list[PortalView]:  # fmt: skip
    """Return the portals that the reader may see, by id.

    Args:
        required: the scopes that the handlers need.
        optional: scopes that are asked for too, and so are no excess.
        only: return this portal alone, if it exists.

    Raises:
        AuditUnavailable: the store does not answer.
        RedisError, OSError: Redis does not answer.
    """
    found = [portal for portal in await read_portals(store, only=only) if can_see(portals, portal.portal_id)]
    if not found:
        return []
    paused = await PortalPauses(redis).list()
    backlogs, last_events, now = await portal_backlogs(redis), await _last_events(engine), clock.now_ms()
    parked = await _cardinalities(redis, (keys.parked_deliveries(portal.portal_id) for portal in found))
    dead = await _cardinalities(redis, (keys.dead_letters_by_time(portal.portal_id) for portal in found))
    views = []
    for portal, parked_count, dead_count in zip(found, parked, dead, strict=True):
        comparison = compare_scopes(required, frozenset(portal.scopes))
        backlog = backlogs.get(portal.portal_id, PortalBacklog())
        is_paused = portal.state is PortalState.INSTALLED and portal.portal_id in paused
        views.append(
            PortalView(
                portal_id=portal.portal_id,
                name=portal.name,
                state=PortalState.PAUSED.value if is_paused else portal.state.value,
                reason=paused[portal.portal_id].reason if is_paused else portal.reason,
                scopes_missing=comparison.missing_texts,
                scopes_excess=tuple(sorted(comparison.excess - set(optional))),
                installed_at=portal.installed_at,
                changed_at=portal.changed_at,
                token_expires_at=portal.token_expires_at,
                last_event_at=last_events.get(portal.portal_id),
                backlog=max(0, backlog.count - parked_count),
                parked=parked_count,
                lag_s=max(0.0, (now - backlog.first_due) / 1000) if backlog.count else 0.0,
                dead_letters=dead_count,
            )
        )
    return views


def matching(views: Iterable[PortalView], *, state: str = "", text: str = "", sort: str = "portal") -> list[PortalView]:
    """Return the portals in this state whose name or id contains `text`, sorted; `missing_scopes` is a state too."""
    wanted = text.casefold()
    chosen = [
        view
        for view in views
        if (not state or view.state == state or (state == "missing_scopes" and view.scopes_missing))
        and (wanted in str(view.portal_id) or wanted in view.name.casefold())
    ]
    return sorted(chosen, key=SORTS.get(sort, SORTS["portal"]))


async def with_budgets(views: Iterable[PortalView], redis: Redis, settings: Settings) -> list[PortalView]:
    """Return the portals with the use of their calls; three calls of Redis for each, so pass those that are shown.

    Raises:
        CRMUnavailable: Redis does not answer.
    """
    budget = budget_of(settings, redis)
    budget.oauth_portals = {view.portal_id for view in views}
    shown = []
    for view in views:
        calls = (await budget.state(view.portal_id))["calls"]
        shown.append(replace(view, calls_used=calls.used, calls_limit=calls.limit))
    return shown


async def read_portals(store: PortalStore, *, only: int | None = None) -> list[InstalledPortal]:
    """Return all portals that installed the app, by id; or `only` one, if it exists.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if only is not None:
        portal = await store.get(only)
        return [] if portal is None else [portal]
    found: list[InstalledPortal] = []
    while page := await store.list(after=found[-1].portal_id if found else 0, limit=_PAGE):
        found += page
        if len(page) < _PAGE:
            break
    return found


async def _last_events(engine: AsyncEngine) -> dict[int, int]:
    newest = select(HEAD.c.seq - _MAX_RECORDS_READ).scalar_subquery()
    query = (
        select(RECORDS.c.portal_id, func.max(RECORDS.c.at).label("at"))
        .where(RECORDS.c.seq > newest, RECORDS.c.action == Action.EVENT.value)
        .group_by(RECORDS.c.portal_id)
    )
    return {int(str(row["portal_id"])): int(str(row["at"])) for row in await fetch(engine, query)}


async def _cardinalities(redis: Redis, sorted_sets: Iterable[str]) -> list[int]:
    """Return how many members each has; a script takes a fifth of the time of one command for each."""
    script, names = redis.register_script(_SCRIPT), [*sorted_sets]
    parts = [names[first : first + _KEYS_PER_SCRIPT] for first in range(0, len(names), _KEYS_PER_SCRIPT)]
    return [count for part in parts for count in await script(keys=part)]
