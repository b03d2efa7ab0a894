"""Tokens of the API that were taken back. Rule: kept for longer than any token lives, so none comes back."""

import hashlib
from typing import Final

from redis.asyncio import Redis

from spokes.audit.records import AuditRecord
from spokes.audit.stream import append

_KEPT_S: Final = 3 * 3600  # tokens of an identity provider live for two hours at most, ours for one
_PREFIX: Final = "spokes:console:revoked:"


async def revoke(redis: Redis, token_id: str, told: AuditRecord) -> None:
    """Let a token open nothing any more; `told` goes into the audit with it.

    Raises:
        RedisError, OSError: Redis does not answer, and the token may still be good.
    """
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.set(_place(token_id), 1, ex=_KEPT_S)
        append(pipeline, told)
        await pipeline.execute()


async def is_revoked(redis: Redis, token_id: str) -> bool:
    """Return whether a token was taken back.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return bool(await redis.exists(_place(token_id)))


def _place(token_id: str) -> str:
    return _PREFIX + hashlib.sha256(token_id.encode(errors="replace")).hexdigest()
