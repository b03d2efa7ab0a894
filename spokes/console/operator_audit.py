"""Audit operator actions that belong to no event: logins, accounts, tokens. A record never holds a secret."""

from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append

_NO_PORTAL: Final = 0


def operator_record(
    action: Action, detail: Mapping[str, object], *, actor: str, address: str = "", reason: str = ""
) -> AuditRecord:
    """Return the record of an operator action; `detail` holds names, ids and counts only."""
    full_detail = {**detail, **({"address": address} if address else {})}
    return AuditRecord(action=action, portal_id=_NO_PORTAL, actor=actor, reason=reason, detail=full_detail)


async def append_record(redis: Redis, record: AuditRecord) -> None:
    """Append a record to the audit stream.

    Raises:
        RedisError, OSError: Redis does not answer, so the action is not audited.
    """
    async with redis.pipeline(transaction=True) as pipeline:
        append(pipeline, record)
        await pipeline.execute()
