"""The ledger of what we put into journal subscriptions, in SQL: only this may be removed. Losing Redis loses none.

An attempt is recorded before its call, with everything that the subscription should hold afterwards, also what others
have put there: if a replacement is interrupted after its deletion, the next apply restores it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import orjson
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.direct_records import DirectRecords
from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.tables import JOURNAL_SUBSCRIPTIONS
from spokes.core.clock import now_ms
from spokes.core.settings import Settings
from spokes.subscriptions.journal.contents import Content, Subject
from spokes.subscriptions.journal.filters import Filter

_T: Final = JOURNAL_SUBSCRIPTIONS


@dataclass(frozen=True, slots=True)
class Pending:
    """What an attempt that was not confirmed wanted a subscription to hold."""

    content: Content
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalLedgerEntry:
    """What of a subscription is ours, and the ids of our filters of it; `changed_at` is its last change, epoch ms."""

    ours: Content
    filters: frozenset[int] = frozenset()
    pending: Pending | None = None
    changed_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class JournalLedger:
    """The ledger of one app. Every method raises AuditUnavailable if the store does not answer.

    `actor` changes it, for `reason`; the caller closes `engine`.
    """

    engine: AsyncEngine
    client_id: str
    audit: DirectRecords
    actor: str
    reason: str = ""

    @classmethod
    def from_settings(cls, settings: Settings, engine: AsyncEngine, actor: str, reason: str = "") -> Self:
        """Return the ledger of this deployment's app."""
        return cls(engine, settings.hubspot_client_id, DirectRecords.from_settings(settings), actor, reason)

    async def read(self) -> dict[Subject, JournalLedgerEntry]:
        """Return all entries."""
        async with read_connection(self.engine) as connection:
            rows = await connection.execute(select(_T).where(_T.c.client_id == self.client_id))
            return {Subject(row.type, row.portal_id, row.target): _entry(row.content, row.changed_at) for row in rows}

    async def begin(self, subject: Subject, entry: JournalLedgerEntry) -> None:
        """Record an attempt; `entry` says what is ours after it, and is pending."""
        async with write_connection(self.engine) as connection:
            await self._put(connection, subject, entry)

    async def confirm(self, subject: Subject, entry: JournalLedgerEntry, change: str) -> None:
        """Record what HubSpot confirmed, and audit the change."""
        async with write_connection(self.engine) as connection:
            await self._put(connection, subject, entry)
            await self._audit(connection, [(subject, change)])

    async def forget(self, subjects: Sequence[Subject], change: str = "") -> None:
        """Remove entries; with `change`, audit it."""
        async with write_connection(self.engine) as connection:
            for subject in subjects:
                await connection.execute(delete(_T).where(*self._row(subject)))
            if change:
                await self._audit(connection, [(subject, change) for subject in subjects])

    async def _put(self, connection: AsyncConnection, subject: Subject, entry: JournalLedgerEntry) -> None:
        await connection.execute(delete(_T).where(*self._row(subject)))
        row = {"client_id": self.client_id, **subject._asdict(), "content": _text(entry), "changed_at": now_ms()}
        await connection.execute(insert(_T).values(row))

    def _row(self, subject: Subject) -> tuple[Any, ...]:
        values = {"client_id": self.client_id, **subject._asdict()}
        return tuple(_T.c[name] == value for name, value in values.items())

    async def _audit(self, connection: AsyncConnection, changes: Sequence[tuple[Subject, str]]) -> None:
        records = [
            AuditRecord(
                action=Action.SUBSCRIPTION_CHANGED,
                portal_id=subject.portal_id,
                actor=self.actor,
                reason=self.reason,
                detail={"change": change, "event": f"journal {subject.type} {subject.target}"},
            )
            for subject, change in changes
        ]
        await self.audit.append(connection, records)


def _text(entry: JournalLedgerEntry) -> str:
    fields: dict[str, object] = {**entry.ours.as_fields(), "filters": sorted(entry.filters)}
    if entry.pending:
        filters = [dict(each) for each in entry.pending.filters]
        fields["pending"] = {**entry.pending.content.as_fields(), "filters": filters}
    return orjson.dumps(fields).decode()


def _entry(text: str, changed_at: int) -> JournalLedgerEntry:
    fields: Mapping[str, Any] = orjson.loads(text)
    pending = fields.get("pending")
    return JournalLedgerEntry(
        Content.from_fields(fields),
        frozenset(fields.get("filters", ())),
        Pending(Content.from_fields(pending), tuple(pending["filters"])) if pending else None,
        changed_at,
    )
