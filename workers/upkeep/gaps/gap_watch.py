"""Keep the ledger of gaps: apply waiting reports, find portals that became silent, and set alert and gauge."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import INSTALLED_PORTALS, RECORDS
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.gaps.gap import GapCause, MissedInterval, scopes_of
from spokes.gaps.ledger import GapLedger
from spokes.gaps.reports import decode, gap_reports
from spokes.gaps.silence import COMPARED_DAYS, WINDOW_HOURS, silent_portals
from spokes.portals.store import PortalState
from spokes.queue.known_portals import known_portals
from spokes.routing import load_router

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_NAMED: Final = 5  # gaps in the alert


async def watch_gaps(
    settings: Settings, redis: Redis, engine: AsyncEngine, episodes: AlertEpisodes, served: Collection[int] | None
) -> None:
    """Apply the reports that wait, and set alert and gauge of the open gaps.

    Args:
        served: the portals that this worker has credentials for; None, not known yet: the reports wait. Without any
            portal, a report of all portals would become a gap of none in particular.

    Raises:
        AuditUnavailable, RedisError: the audit store or Redis does not answer.
    """
    ledger = GapLedger.from_settings(settings, engine)
    reports = gap_reports(redis)
    if served is not None and (payloads := await reports.oldest()):
        portals = await known_portals(redis) | {*settings.portal_ids, *served}
        scopes = scopes_of(load_router(settings.handlers).registrations)
        for report in map(decode, payloads):
            if isinstance(report, MissedInterval):
                await ledger.report(report, portals=portals, scopes=scopes)
            elif report is not None:
                await ledger.prove(report)
        await reports.remove(len(payloads))
    counts = await ledger.count_open()
    oldest = await ledger.list(limit=_NAMED) if counts else []
    await redis.set(keys.OPEN_GAPS, counts.total())
    await episodes.set_state(
        Alert.GAPS_OPEN, is_active=bool(counts), count=counts.total(), causes=_by_cause(counts),
        gaps=[gap.id for gap in oldest],
    )  # fmt: skip


async def watch_silence(settings: Settings, engine: AsyncEngine) -> None:
    """Report the portals from which events usually come at this time, and none comes.

    Raises:
        AuditUnavailable: the audit store does not answer.
    """
    until = clock.now_ms()
    since = until - WINDOW_HOURS * _HOUR_MS
    now = await _deliveries(engine, since, until)
    before = [
        await _deliveries(engine, since - day * _DAY_MS, until - day * _DAY_MS) for day in range(1, COMPARED_DAYS + 1)
    ]
    silent = set(silent_portals(now, before)) - await _uninstalled(engine)
    ledger = GapLedger.from_settings(settings, engine)
    scopes = scopes_of(load_router(settings.handlers).registrations)
    for portal_id in sorted(silent):
        missed = MissedInterval(portal_id=portal_id, since=since, until=until, cause=GapCause.NO_TRAFFIC)
        await ledger.report(missed, scopes=scopes)


async def _deliveries(engine: AsyncEngine, since: int, until: int) -> dict[int, int]:
    """Return how many deliveries were archived of each portal."""
    query = (
        select(RECORDS.c.portal_id, func.count().label("count"))
        .where(RECORDS.c.at >= since, RECORDS.c.at < until, RECORDS.c.action == Action.DELIVERY_RECEIVED)
        .group_by(RECORDS.c.portal_id)
    )
    return {int(str(row["portal_id"])): int(str(row["count"])) for row in await fetch(engine, query)}


async def _uninstalled(engine: AsyncEngine) -> set[int]:
    query = select(INSTALLED_PORTALS.c.portal_id).where(INSTALLED_PORTALS.c.state == PortalState.UNINSTALLED)
    return {int(str(row["portal_id"])) for row in await fetch(engine, query)}


def _by_cause(counts: Mapping[tuple[GapCause, ...], int]) -> dict[str, int]:
    """Return how many gaps have each cause."""
    by_cause = Counter[str]()
    for causes, count in counts.items():
        by_cause.update(dict.fromkeys((cause.value for cause in causes), count))
    return dict(by_cause)
