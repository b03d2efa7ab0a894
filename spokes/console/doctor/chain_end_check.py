"""Compare the audit store with the end of the chain that Redis knows: a shortened chain is consistent by itself."""

from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection

from spokes.audit.checkpoints import Checkpoint
from spokes.audit.evidence.chain_end import ChainEnd, contradicts
from spokes.audit.sql import schema
from spokes.audit.sql.chain_head import read_head
from spokes.audit.sql.engine import open_engine, read_connection
from spokes.console.doctor.findings import Finding, fault
from spokes.core.errors import AuditUnavailable
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings

TOPIC: Final = "audit chain"


def _contradicts(connection: Connection, position: Checkpoint) -> bool:
    head = read_head(connection, position.seq)
    return head is not None and contradicts(head, position)  # a missing head is named by the verification


async def check_chain_end(settings: Settings, redis: Redis) -> list[Finding]:
    """Return a finding if the store lacks records that were archived."""
    engine = open_engine(settings.database_address, statement_timeout_s=10.0)
    try:
        known = await ChainEnd(redis, load_master_key(settings)).load()
        has_tables = await schema.revision(engine) is not None
        async with read_connection(engine) as connection:
            missing = [
                position.seq
                for position in known.positions
                if not has_tables or await connection.run_sync(_contradicts, position)
            ]
    except (RedisError, OSError, TimeoutError, AuditUnavailable):
        return []  # the checks of Redis and of the audit store report it
    finally:
        await engine.dispose()
    if not missing:
        return []
    return [
        fault(
            TOPIC,
            f"Redis knows that record {max(missing):,} was archived, and the audit store ends before it or holds "
            "another record there: DATABASE_URL names another database, an older backup was restored, or records were "
            "deleted. Correct DATABASE_URL or restore the newest backup, then run `spokes audit verify`.",
            seq=max(missing),
        )
    ]
