"""Tell the audit of acts that are of no event: logins, accounts, tokens. Rule: who, from where, why; never a secret."""

from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append

_NO_PORTAL: Final = 0


def operator_record(
    action: Action, detail: Mapping[str, object], *, actor: str, address: str = "", reason: str = ""
) -> AuditRecord:
    """Return the record of an act; `told` are names, ids and counts."""
    detail = {**detail, **({"address": address} if address else {})}
    return AuditRecord(action=action, portal_id=_NO_PORTAL, actor=actor, reason=reason, detail=detail)


async def append_record(redis: Redis, record: AuditRecord) -> None:
    """Append a record.

    Raises:
        RedisError, OSError: Redis does not answer, so the audit does not know of the act.
    """
    async with redis.pipeline(transaction=True) as pipeline:
        append(pipeline, record)
        await pipeline.execute()
