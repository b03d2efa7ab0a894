"""The outcomes of the events of a gap that was closed, counted in the audit.

An event of the gap is one that occurred in its interval and came by the intake that closed it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, Outcome
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.backfill.store import Backfill, BackfillStore
from spokes.core.events import Intake
from spokes.gaps.gap import ALL_PORTALS, ALL_SCOPES, Gap, Proof

_INTAKES: Final[Mapping[Proof, Intake]] = {Proof.BACKFILL: "backfill", Proof.JOURNAL: "journal"}
_HANDLED: Final = frozenset({Outcome.PROCESSED, Outcome.COALESCED, Outcome.ECHO, Outcome.MERGED})
_FAILED: Final = frozenset({Outcome.DEAD, Outcome.DISCARDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryReport:
    """The events of one gap.

    Attributes:
        missed: came by no other intake before: those recovered and those lost.
        recovered: were admitted, and a worker has begun with them.
        known: had come by another intake before.
        handled: of those recovered, ended as a handler wanted.
        superseded: of those recovered, older than a change that was applied.
        failed: of those recovered, ended as a dead letter.
        in_progress: of those recovered, neither of these yet.
        lost: records that HubSpot counts and its search did not show; a gap with any stays open.
        waiting: events of the whole backfill that no worker has begun with.
        calls: calls of the whole backfill, by kind.
    """

    missed: int
    recovered: int
    known: int
    handled: int
    superseded: int
    failed: int
    in_progress: int
    lost: int = 0
    waiting: int = 0
    calls: Mapping[str, int] = field(default_factory=dict)


def count_events(rows: Iterable[tuple[str, str]], *, lost: int = 0) -> RecoveryReport:
    """Return the report of events, given as key and outcome in the order of their records. Pure.

    An event that was admitted and came again later is recovered; a duplicate alone was known.
    """
    last: dict[str, str] = {}
    for key, outcome in rows:
        if outcome != Outcome.DUPLICATE or key not in last:
            last[key] = outcome
    counts = Counter(last.values())
    known = counts.pop(Outcome.DUPLICATE, 0)
    recovered = counts.total()
    handled, failed = (sum(counts[outcome] for outcome in kind) for kind in (_HANDLED, _FAILED))
    superseded = counts[Outcome.SUPERSEDED]
    return RecoveryReport(
        missed=recovered + lost, recovered=recovered, known=known, handled=handled, superseded=superseded,
        failed=failed, in_progress=recovered - handled - superseded - failed, lost=lost,
    )  # fmt: skip


async def recovery_report(engine: AsyncEngine, store: BackfillStore, gap: Gap) -> RecoveryReport | None:
    """Return the report of a gap; None if it is open, or closed without events that are its own.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    intake = _INTAKES.get(gap.proof) if gap.proof else None
    if intake is None:
        return None
    backfill = await store.find(gap.backfill) if gap.backfill else None
    begin = gap.since if backfill is None else backfill.started_at
    rows = await _event_rows(engine, gap, intake, begin)
    report = count_events(rows, lost=0 if backfill is None else backfill.checkpoint.walk.unproven)
    if backfill is None:
        return report
    return RecoveryReport(
        **{name: getattr(report, name) for name in report.__slots__ if name not in {"waiting", "calls"}},
        waiting=await _waiting(engine, backfill),
        calls=backfill.counts.calls,
    )


async def _event_rows(engine: AsyncEngine, gap: Gap, intake: Intake, begin: int) -> list[tuple[str, str]]:
    conditions = [
        RECORDS.c.at >= begin,
        RECORDS.c.action == Action.EVENT,
        RECORDS.c.occurred_at >= gap.since,
        RECORDS.c.occurred_at < gap.until,
        RECORDS.c.detail.contains(f'"intake":"{intake}"', autoescape=True),
    ]
    if gap.portal_id != ALL_PORTALS:
        conditions.append(RECORDS.c.portal_id == gap.portal_id)
    object_type, _, kind = gap.scope.partition(".")
    if gap.scope != ALL_SCOPES:
        conditions.append(RECORDS.c.object_type == object_type)
    if kind:
        conditions.append(RECORDS.c.subscription_type.endswith(f".{kind}", autoescape=True))
    query = select(RECORDS.c.event_key, RECORDS.c.outcome).where(*conditions).order_by(RECORDS.c.seq)
    return [(str(row["event_key"]), str(row["outcome"])) for row in await fetch(engine, query)]


async def _waiting(engine: AsyncEngine, backfill: Backfill) -> int:
    """Return how many events of a backfill were admitted and have no record yet."""
    query = select(RECORDS.c.event_key).where(
        RECORDS.c.at >= backfill.started_at,
        RECORDS.c.action == Action.EVENT,
        RECORDS.c.outcome != Outcome.DUPLICATE,
        RECORDS.c.portal_id == backfill.portal_id,
        RECORDS.c.object_type == backfill.object_type,
        RECORDS.c.detail.contains('"intake":"backfill"', autoescape=True),
    )
    begun = {str(row["event_key"]) for row in await fetch(engine, query)}
    return max(0, backfill.counts.admitted - len(begun))
