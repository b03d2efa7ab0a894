"""Tell the audit of acts that are of no event: logins, accounts, tokens. Rule: who, from where, why; never a secret."""

from typing import Final

from redis.asyncio import Redis

from audit.records import Action, AuditRecord
from audit.stream import append

_NO_PORTAL: Final = 0


async def tell(
    redis: Redis, action: Action, *, actor: str, address: str = "", reason: str = "", **told: object
) -> None:
    """Append the record of an act; `told` are names, ids and counts.

    Raises:
        RedisError, OSError: Redis does not answer, so nobody knows of the act.
    """
    detail = {**told, **({"address": address} if address else {})}
    async with redis.pipeline(transaction=True) as pipeline:
        append(pipeline, AuditRecord(action=action, portal_id=_NO_PORTAL, actor=actor, reason=reason, detail=detail))
        await pipeline.execute()
