"""Append audit records in the caller's SQL transaction, past the Redis stream, so that they commit with the change."""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from spokes.audit.chain_writer import ChainWriter
from spokes.audit.masked_rows import mask_row
from spokes.audit.records import AuditRecord
from spokes.audit.rows import to_row


async def append_directly(
    connection: AsyncConnection, records: Iterable[AuditRecord], *, master_key: str, checkpoint_every: int
) -> None:
    """Append records to the chain.

    Raises:
        AuditUnavailable: the chain's head is missing.
    """
    if rows := [mask_row(to_row(record.as_dict())) for record in records]:
        await ChainWriter(master_key, checkpoint_every).append(connection, rows)
