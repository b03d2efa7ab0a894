"""The ledger of gaps in SQL: losing Redis loses no gap. Each change and its audit record are one transaction.

A report or a proof of many portals is several of them: one that is interrupted may be repeated.

Every method raises AuditUnavailable if the store does not answer.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, RowMapping, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.direct_records import DirectRecords
from spokes.audit.incidents.incident import storable
from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.tables import GAPS
from spokes.core.clock import now_ms
from spokes.core.errors import RecoveryRefused
from spokes.core.masking import Mask
from spokes.core.settings import Settings
from spokes.gaps.gap import ALL_PORTALS, ALL_SCOPES, Gap, GapCause, MissedInterval, Proof, ProvenInterval, new_gap_id
from spokes.gaps.intervals import GapChanges, cover, widen

_G: Final = GAPS.c
_MAX_LISTED: Final = 1000
_CHANGED_TOGETHER: Final = 500  # gaps, in one transaction: it holds the lock of the audit's chain


@dataclass(frozen=True, slots=True)
class GapLedger:
    """The gaps of a deployment; the caller closes `engine`."""

    engine: AsyncEngine
    audit: DirectRecords

    @classmethod
    def from_settings(cls, settings: Settings, engine: AsyncEngine) -> Self:
        """Return the ledger of this deployment."""
        return cls(engine, DirectRecords.from_settings(settings))

    async def report(self, missed: MissedInterval, *, portals: Iterable[int] = (), scopes: Iterable[str] = ()) -> None:
        """Record that events may have been missed.

        Args:
            missed: the interval.
            portals: the portals if `missed` names none; without any, the gap is of all portals.
            scopes: the scopes if `missed` names none; without any, the gap is of all scopes.
        """
        each_portal = sorted(portals) if missed.portal_id == ALL_PORTALS else []
        each_scope = sorted(scopes) if missed.scope == ALL_SCOPES else []
        subjects = itertools.product(each_portal or [missed.portal_id], each_scope or [missed.scope])
        while some := [*itertools.islice(subjects, _CHANGED_TOGETHER)]:
            async with write_connection(self.engine) as connection:
                await _lock(connection)
                is_touching = (_G.since <= missed.until) & (_G.until >= missed.since)
                portal_ids = {portal_id for portal_id, _ in some}
                known = await _open_gaps(connection, _G.portal_id.in_(portal_ids), is_touching)
                await self._store(connection, _widened(known, missed, some), known)

    async def prove(self, proven: ProvenInterval) -> tuple[Gap, ...]:
        """Close what the proof covers; return the closed gaps."""
        closed: list[Gap] = []
        after: str | None = ""
        while after is not None:
            async with write_connection(self.engine) as connection:
                await _lock(connection)
                known = await _open_gaps(connection, *_concerned(proven), _G.id > after, limit=_CHANGED_TOGETHER)
                change = cover(known, proven, now_ms=now_ms(), new_id=new_gap_id)
                await self._store(connection, change, known)
            closed += change.closed
            after = known[-1].id if len(known) == _CHANGED_TOGETHER else None
        return tuple(closed)

    async def close(self, gap_id: str, *, actor: str, reason: str) -> Gap:
        """Close one gap for an operator.

        Raises:
            RecoveryRefused: there is no such open gap, or no reason.
        """
        if not reason.strip():
            raise RecoveryRefused("A gap that no proof closes needs a reason. Write why no event of it is missing.")
        async with write_connection(self.engine) as connection:
            await _lock(connection)
            known = await _open_gaps(connection, _G.id == gap_id)
            if not known:
                raise RecoveryRefused(f"There is no open gap {gap_id!r}. `spokes gaps list` shows the open ones.")
            closed = replace(
                known[0],
                proof=Proof.OPERATOR,
                closed_at=now_ms(),
                closed_by=actor,
                reason=Mask().text(storable(reason.strip())),
            )
            await self._store(connection, GapChanges((closed,)), known)
        return closed

    async def list(
        self, *, include_closed: bool = False, portals: Iterable[int] | None = None, limit: int = _MAX_LISTED
    ) -> list[Gap]:
        """Return the gaps, the oldest open one first, then the closed ones, the last closed first.

        `portals` limits them to these portals.
        """
        query = select(GAPS).order_by(_G.closed_at.is_not(None), _G.closed_at.desc(), _G.since, _G.id).limit(limit)
        if not include_closed:
            query = query.where(_G.closed_at.is_(None))
        if portals is not None:
            query = query.where(_G.portal_id.in_(list(portals)))
        async with read_connection(self.engine) as connection:
            return [_gap(row) for row in (await connection.execute(query)).mappings()]

    async def count_open(self) -> Counter[tuple[GapCause, ...]]:
        """Return how many open gaps have the same causes."""
        query = select(_G.causes, func.count().label("count")).where(_G.closed_at.is_(None)).group_by(_G.causes)
        async with read_connection(self.engine) as connection:
            rows = (await connection.execute(query)).mappings().all()
        return Counter({_causes(row["causes"]): row["count"] for row in rows})

    async def find(self, gap_id: str) -> Gap:
        """Return a gap, open or closed.

        Raises:
            RecoveryRefused: there is no such gap.
        """
        async with read_connection(self.engine) as connection:
            row = (await connection.execute(select(GAPS).where(_G.id == gap_id))).mappings().first()
        if row is None:
            raise RecoveryRefused(f"There is no gap {gap_id!r}. `spokes gaps list --all` shows all gaps.")
        return _gap(row)

    async def _store(self, connection: AsyncConnection, change: GapChanges, known: Sequence[Gap]) -> None:
        if change.absorbed:
            await connection.execute(delete(GAPS).where(_G.id.in_(change.absorbed)))
        insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
        if change.stored:
            statement = insert(GAPS)
            names = [column.name for column in GAPS.columns]
            statement = statement.on_conflict_do_update(
                index_elements=[_G.id], set_={name: statement.excluded[name] for name in names}
            )
            await connection.execute(statement, [_row(gap) for gap in change.stored])
        records = _records(change, {gap.id for gap in known})
        await self.audit.append(connection, records)


def _records(change: GapChanges, known_ids: set[str]) -> list[AuditRecord]:
    """Return the audit records of a change: one for each gap that it opens or closes."""
    records = []
    for gap in change.stored:
        if gap.proof is None and gap.id in known_ids:
            continue  # an open gap grew, or the rest of one stays open
        is_rest = gap.proof is None and bool(change.closed)
        if is_rest:
            continue
        detail: dict[str, object] = {
            "gap": gap.id, "scope": gap.scope, "since": gap.since, "until": gap.until, "causes": list(gap.causes),
        }  # fmt: skip
        if gap.proof is not None:
            detail["proof"] = gap.proof
        records.append(
            AuditRecord(
                action=Action.GAP_OPENED if gap.proof is None else Action.GAP_CLOSED, portal_id=gap.portal_id,
                actor=gap.closed_by or "spokes", reason=gap.reason, detail=detail,
            )
        )  # fmt: skip
    return records


async def _lock(connection: AsyncConnection) -> None:
    """Allow no other process to change gaps until the transaction ends; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("LOCK TABLE gaps IN SHARE ROW EXCLUSIVE MODE"))


def _concerned(proven: ProvenInterval) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of the gaps that a proof may cover."""
    yield (_G.since < proven.until) & (_G.until > proven.since)
    if proven.portal_id != ALL_PORTALS:
        yield _G.portal_id == proven.portal_id
    if proven.scope != ALL_SCOPES:
        yield _G.scope == proven.scope
    if proven.only_cause is not None:
        yield _G.causes == proven.only_cause.value


def _widened(known: Iterable[Gap], missed: MissedInterval, subjects: Iterable[tuple[int, str]]) -> GapChanges:
    """Return the change that makes an interval a part of the open gaps of some subjects."""
    by_subject: dict[tuple[int, str], list[Gap]] = {}
    for gap in known:
        by_subject.setdefault(gap.subject, []).append(gap)
    stored, absorbed = list[Gap](), list[str]()
    for portal_id, scope in subjects:
        single = replace(missed, portal_id=portal_id, scope=scope)
        change = widen(by_subject.get((portal_id, scope), ()), single, now_ms=now_ms(), new_id=new_gap_id)
        stored += change.stored
        absorbed += change.absorbed
    return GapChanges(tuple(stored), tuple(absorbed))


async def _open_gaps(
    connection: AsyncConnection, *conditions: ColumnElement[bool], limit: int | None = None
) -> list[Gap]:
    """Return open gaps by id."""
    query = select(GAPS).where(_G.closed_at.is_(None), *conditions).order_by(_G.id).limit(limit)
    return [_gap(row) for row in (await connection.execute(query)).mappings()]


def _row(gap: Gap) -> dict[str, Any]:
    return asdict(gap) | {"causes": " ".join(gap.causes), "proof": None if gap.proof is None else gap.proof.value}


def _gap(row: RowMapping) -> Gap:
    fields = dict(row)
    fields["causes"] = _causes(fields["causes"])
    fields["proof"] = None if fields["proof"] is None else Proof(fields["proof"])
    return Gap(**fields)


def _causes(text_: str) -> tuple[GapCause, ...]:
    return tuple(GapCause(name) for name in text_.split())
