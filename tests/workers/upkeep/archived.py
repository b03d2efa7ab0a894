"""Audit records in the archive, for tests that count or purge them."""

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append
from spokes.core import clock
from tests.support.deployment import KEY

NOW = clock.now_ms()
DAY = 86_400_000


async def archive(redis: Redis, engine: AsyncEngine, count: int, at: int, **fields: object) -> None:
    """Archive that many records of one time; by default, of processed deletions."""
    defaults = {"action": Action.EVENT, "outcome": Outcome.PROCESSED, "subscription_type": "contact.deletion"}
    async with redis.pipeline() as pipeline:
        for _ in range(count):
            append(pipeline, AuditRecord(portal_id=1, at=at, **{**defaults, **fields}))
        await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()
