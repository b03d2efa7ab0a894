"""Append audit records in the caller's SQL transaction, past the Redis stream, so that they commit with the change."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy.ext.asyncio import AsyncConnection

from spokes.audit.chain_writer import ChainWriter
from spokes.audit.masked_rows import mask_row
from spokes.audit.records import AuditRecord
from spokes.audit.rows import to_row
from spokes.audit.sql.chain_head import lock_head
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings


@dataclass(frozen=True, slots=True)
class DirectRecords:
    """Appends records to the deployment's chain; a checkpoint follows every `checkpoint_every` of them."""

    master_key: str = field(repr=False)
    checkpoint_every: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return what appends to the chain of this deployment."""
        return cls(load_master_key(settings), settings.checkpoint_every)

    async def append(self, connection: AsyncConnection, records: Iterable[AuditRecord]) -> None:
        """Append records to the chain, in the caller's transaction.

        Raises:
            AuditUnavailable: the chain's head is missing.
        """
        if rows := [mask_row(to_row(record.as_dict())) for record in records]:
            writer, head = ChainWriter(self.master_key, self.checkpoint_every), await connection.run_sync(lock_head)
            await connection.run_sync(writer.append, rows, head)
