"""Backfills in SQL: what each reads, who runs it, and from where it continues.

Every method raises AuditUnavailable if the store does not answer.
"""

import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, Self

from sqlalchemy import RowMapping, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.direct_records import DirectRecords
from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.tables import BACKFILLS
from spokes.backfill.checkpoint import BackfillCheckpoint, Counts
from spokes.core.clock import now_ms
from spokes.core.errors import RecoveryRefused
from spokes.core.settings import Settings

_B: Final = BACKFILLS.c
_RUNNER_GONE_MS: Final = 60_000  # without a checkpoint for this long, another process may continue


@unique
class BackfillState(StrEnum):
    """The state of a backfill."""

    RUNNING = "running"
    PAUSED = "paused"  # by an operator
    STOPPED = "stopped"  # by an error; `reason` names it
    CANCELLED = "cancelled"  # by an operator, for good
    FINISHED = "finished"


OPEN_STATES: Final = (BackfillState.RUNNING, BackfillState.PAUSED, BackfillState.STOPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """One backfill of one portal and object type, of the changes at `since` <= t < `until` (epoch ms)."""

    id: str
    portal_id: int
    object_type: str
    since: int
    until: int
    properties: tuple[str, ...] = ()
    handler: str = ""
    state: BackfillState = BackfillState.RUNNING
    reason: str = ""
    started_at: int
    started_by: str
    changed_at: int
    checkpoint: BackfillCheckpoint
    counts: Counts
    runner: str = ""


def runner_name() -> str:
    """Return the name under which this process runs backfills: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_gone(runner: str) -> bool:
    """Return whether a process was on this machine and has ended; False if it cannot be known."""
    host, _, number = runner.rpartition(":")
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def new_backfill_id() -> str:
    """Return a new id of eight hexadecimal digits."""
    return secrets.token_hex(4)


@dataclass(frozen=True, slots=True)
class BackfillStore:
    """The backfills of a deployment; `actor` is who changes them. The caller closes `engine`."""

    engine: AsyncEngine
    audit: DirectRecords
    actor: str

    @classmethod
    def from_settings(cls, settings: Settings, engine: AsyncEngine, actor: str) -> Self:
        """Return the store of this deployment."""
        return cls(engine, DirectRecords.from_settings(settings), actor)

    async def create(self, backfill: Backfill, runner: str) -> None:
        """Store a new backfill that the process `runner` runs."""
        row = {
            "id": backfill.id, "portal_id": backfill.portal_id, "object_type": backfill.object_type,
            "since": backfill.since, "until": backfill.until, "properties": " ".join(backfill.properties),
            "handler": backfill.handler, "state": backfill.state.value, "reason": "",
            "started_at": backfill.started_at, "started_by": backfill.started_by, "changed_at": backfill.changed_at,
            "runner": runner, "checkpoint": backfill.checkpoint.to_json(), "counts": backfill.counts.to_json(),
        }  # fmt: skip
        async with write_connection(self.engine) as connection:
            await connection.execute(insert(BACKFILLS).values(**row))
            await self._record(connection, backfill, "started")

    async def list(self, *, include_ended: bool = False, limit: int = 200) -> list[Backfill]:
        """Return the backfills, the last started first."""
        query = select(BACKFILLS).order_by(_B.started_at.desc(), _B.id).limit(limit)
        if not include_ended:
            query = query.where(_B.state.in_(OPEN_STATES))
        async with read_connection(self.engine) as connection:
            return [_backfill(row) for row in (await connection.execute(query)).mappings()]

    async def find(self, backfill_id: str) -> Backfill:
        """Return a backfill.

        Raises:
            RecoveryRefused: there is no such backfill.
        """
        async with read_connection(self.engine) as connection:
            return await _find(connection, backfill_id)

    async def claim(self, backfill_id: str, runner: str) -> Backfill:
        """Have the process `runner` continue a backfill.

        Raises:
            RecoveryRefused: there is no such backfill, it has ended, or another process runs it.
        """
        async with write_connection(self.engine) as connection:
            backfill = await _find(connection, backfill_id)
            if backfill.state not in OPEN_STATES:
                raise RecoveryRefused(f"Backfill {backfill_id} is {backfill.state}; start a new one.")
            is_free = or_(
                _B.state != BackfillState.RUNNING.value,
                _B.changed_at < now_ms() - _RUNNER_GONE_MS,
                _B.runner.in_([backfill.runner] if is_gone(backfill.runner) else []),
            )
            change = update(BACKFILLS).where(_B.id == backfill_id, is_free)
            values = {"state": BackfillState.RUNNING.value, "reason": "", "runner": runner, "changed_at": now_ms()}
            if not (await connection.execute(change.values(**values))).rowcount:
                raise RecoveryRefused(
                    f"Backfill {backfill_id} runs in another process, or did a minute ago. Pause it, or wait a minute."
                )
            await self._record(connection, backfill, "continued")
            return await _find(connection, backfill_id)

    async def save(
        self, backfill_id: str, runner: str, checkpoint: BackfillCheckpoint, counts: Counts
    ) -> BackfillState:
        """Store how far a backfill has come; return the state that operators want.

        Raises:
            RecoveryRefused: another process continues it.
        """
        values = {"checkpoint": checkpoint.to_json(), "counts": counts.to_json(), "changed_at": now_ms()}
        async with write_connection(self.engine) as connection:
            change = update(BACKFILLS).where(_B.id == backfill_id, _B.runner == runner)
            if not (await connection.execute(change.values(**values))).rowcount:
                raise RecoveryRefused(f"Another process continues backfill {backfill_id}.")
            state = await connection.scalar(select(_B.state).where(_B.id == backfill_id))
        return BackfillState(str(state))

    async def end(self, backfill_id: str, runner: str, state: BackfillState, reason: str = "") -> None:
        """Set the state in which this process leaves a backfill."""
        async with write_connection(self.engine) as connection:
            change = update(BACKFILLS).where(_B.id == backfill_id, _B.runner == runner)
            values = {"state": state.value, "reason": reason, "runner": "", "changed_at": now_ms()}
            if (await connection.execute(change.values(**values))).rowcount:
                await self._record(connection, await _find(connection, backfill_id), state.value)

    async def request(self, backfill_id: str, state: BackfillState, reason: str = "") -> None:
        """Pause or cancel a backfill; the process that runs it stops after the page it reads.

        Raises:
            RecoveryRefused: there is no such backfill, or it has ended.
        """
        async with write_connection(self.engine) as connection:
            backfill = await _find(connection, backfill_id)
            change = update(BACKFILLS).where(_B.id == backfill_id, _B.state.in_(OPEN_STATES))
            if not (await connection.execute(change.values(state=state.value))).rowcount:
                raise RecoveryRefused(f"Backfill {backfill_id} is {backfill.state}.")
            await self._record(connection, backfill, state.value, reason)

    async def _record(self, connection: AsyncConnection, backfill: Backfill, what: str, reason: str = "") -> None:
        detail = {
            "backfill": backfill.id, "state": what, "object_type": backfill.object_type, "since": backfill.since,
            "until": backfill.until, "records": backfill.counts.records, "admitted": backfill.counts.admitted,
        }  # fmt: skip
        record = AuditRecord(
            action=Action.BACKFILL, portal_id=backfill.portal_id, actor=self.actor, reason=reason, detail=detail
        )
        await self.audit.append(connection, [record])


def first_open(
    backfills: Iterable[Backfill], portal_id: int, object_type: str, since: int, *, filters: tuple[object, ...]
) -> Backfill | None:
    """Return the first one with this beginning and these filters: properties and handler; None if there is none."""
    for backfill in backfills:
        own = (backfill.portal_id, backfill.object_type, backfill.since, (backfill.properties, backfill.handler))
        if own == (portal_id, object_type, since, filters):
            return backfill
    return None


async def _find(connection: AsyncConnection, backfill_id: str) -> Backfill:
    row = (await connection.execute(select(BACKFILLS).where(_B.id == backfill_id))).mappings().first()
    if row is None:
        raise RecoveryRefused(f"There is no backfill {backfill_id!r}. `spokes backfills list --all` shows all.")
    return _backfill(row)


def _backfill(row: RowMapping) -> Backfill:
    return Backfill(
        id=row["id"],
        portal_id=row["portal_id"],
        object_type=row["object_type"],
        since=row["since"],
        until=row["until"],
        properties=tuple(row["properties"].split()),
        handler=row["handler"],
        state=BackfillState(row["state"]),
        reason=row["reason"],
        started_at=row["started_at"],
        started_by=row["started_by"],
        changed_at=row["changed_at"],
        checkpoint=BackfillCheckpoint.from_json(row["checkpoint"]),
        counts=Counts.from_json(row["counts"]),
        runner=row["runner"],
    )
