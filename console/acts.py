"""Tell the audit of acts that are of no event: logins, accounts, tokens. Rule: who, from where, why; never a secret."""

import sys
from collections.abc import Mapping
from typing import Any, Final

import structlog
from redis.asyncio import Redis

from audit.records import Action, AuditRecord
from audit.stream import append
from core.security import SecurityEvent, security

_NO_PORTAL: Final = 0


def act(action: Action, told: Mapping[str, object], *, actor: str, address: str = "", reason: str = "") -> AuditRecord:
    """Return the record of an act; `told` are names, ids and counts."""
    detail = {**told, **({"address": address} if address else {})}
    return AuditRecord(action=action, portal_id=_NO_PORTAL, actor=actor, reason=reason, detail=detail)


async def tell(redis: Redis, record: AuditRecord) -> None:
    """Append a record.

    Raises:
        RedisError, OSError: Redis does not answer, so the audit does not know of the act.
    """
    async with redis.pipeline(transaction=True) as pipeline:
        append(pipeline, record)
        await pipeline.execute()


def say_beside(event: SecurityEvent, **fields: Any) -> None:
    """Write the line of a security event where it is no part of a command's answer."""
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        security(event, **fields)
    finally:
        structlog.configure(**before)
