"""The ledger of subscriptions that Spokes created, in SQL: only these may be deleted. Losing Redis loses none.

An attempt is recorded before its call. Each change and its audit record are written in one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.direct_records import DirectRecords
from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.tables import PUSH_SUBSCRIPTIONS
from spokes.core.clock import now_ms
from spokes.core.settings import Settings
from spokes.subscriptions.subscribed_events import SubscribedEvent, parse_event

_NO_PORTAL: Final = 0
_TABLE: Final = PUSH_SUBSCRIPTIONS


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A subscription of ours; `subscription_id` is None until HubSpot confirms it. `changed_at` is epoch ms."""

    event: SubscribedEvent
    subscription_id: int | None
    changed_at: int


@dataclass(frozen=True, slots=True)
class PushLedger:
    """The ledger of one app. Every method raises AuditUnavailable if the store does not answer.

    `actor` changes it, for `reason`; the caller closes `engine`.
    """

    engine: AsyncEngine
    app_id: int
    audit: DirectRecords
    actor: str
    reason: str = ""

    @classmethod
    def from_settings(cls, settings: Settings, engine: AsyncEngine, actor: str, reason: str = "") -> Self:
        """Return the ledger of this deployment's app."""
        return cls(engine, settings.hubspot_app_id, DirectRecords.from_settings(settings), actor, reason)

    async def read(self) -> dict[str, LedgerEntry]:
        """Return all entries by event."""
        async with read_connection(self.engine) as connection:
            rows = await connection.execute(select(_TABLE).where(_TABLE.c.app_id == self.app_id))
            entries = [LedgerEntry(parse_event(row.event), row.subscription_id, row.changed_at) for row in rows]
        return {str(entry.event): entry for entry in entries}

    async def begin(self, event: SubscribedEvent) -> int:
        """Record that a subscription is about to be created; return the time (epoch ms)."""
        at = now_ms()
        async with write_connection(self.engine) as connection:
            await self._put(connection, event, None, at)
        return at

    async def confirm(self, event: SubscribedEvent, subscription_id: int, change: str) -> None:
        """Record a subscription as ours; `change` says how: created, recovered or adopted."""
        async with write_connection(self.engine) as connection:
            await self._put(connection, event, subscription_id, now_ms())
            detail = {"change": change, "event": str(event), "subscription": subscription_id}
            await self._audit(connection, [detail])

    async def forget(self, events: Sequence[str], *, deleted_id: int | None = None) -> None:
        """Remove entries; with `deleted_id`, that subscription was deleted for it."""
        async with write_connection(self.engine) as connection:
            await connection.execute(
                delete(_TABLE).where(_TABLE.c.app_id == self.app_id, _TABLE.c.event.in_(list(events)))
            )
            if deleted_id is not None:
                details = [{"change": "deleted", "event": event, "subscription": deleted_id} for event in events]
                await self._audit(connection, details)

    async def record(self, details: Sequence[Mapping[str, object]]) -> None:
        """Audit changes that leave the ledger as it is."""
        async with write_connection(self.engine) as connection:
            await self._audit(connection, details)

    async def _put(
        self, connection: AsyncConnection, event: SubscribedEvent, subscription_id: int | None, at: int
    ) -> None:
        row = {"app_id": self.app_id, "event": str(event)}
        await connection.execute(delete(_TABLE).where(_TABLE.c.app_id == self.app_id, _TABLE.c.event == str(event)))
        await connection.execute(insert(_TABLE).values(**row, subscription_id=subscription_id, changed_at=at))

    async def _audit(self, connection: AsyncConnection, details: Sequence[Mapping[str, object]]) -> None:
        """Append the records of changes to the chain, in the caller's transaction."""
        records = [self._record(detail) for detail in details]
        await self.audit.append(connection, records)

    def _record(self, detail: Mapping[str, Any]) -> AuditRecord:
        return AuditRecord(
            action=Action.SUBSCRIPTION_CHANGED,
            portal_id=_NO_PORTAL,
            actor=self.actor,
            reason=self.reason,
            detail={"app": self.app_id, **detail},
        )
