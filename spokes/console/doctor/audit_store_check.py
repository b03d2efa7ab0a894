"""Check the audit store: it answers, its schema is current, and its chain ends at the newest record."""

from typing import Final

from sqlalchemy import select

from spokes.audit.chain import GENESIS, chain_hash
from spokes.audit.rows import Row
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.errors import AuditUnavailable
from spokes.core.settings import Settings

TOPIC: Final = "audit store"
_CHAIN_TOPIC: Final = "audit chain"


async def check_audit_store(settings: Settings) -> list[Finding]:
    """Check the schema and the last two records of the chain; `audit verify` recomputes the whole chain."""
    engine = open_engine(settings.database_address, statement_timeout_s=10.0)
    try:
        await schema.require_current(engine)
        heads = await fetch(engine, select(HEAD.c.seq, HEAD.c.hash))
        last_records = await fetch(engine, select(RECORDS).order_by(RECORDS.c.seq.desc()).limit(2))
    except AuditUnavailable as error:
        # A warning: the stream in Redis keeps the records until the store is available, so none is lost.
        return [warning(TOPIC, f"{str(error).rstrip('.')}. Audit records stay in Redis until the store is available.")]
    finally:
        await engine.dispose()
    available = ok(TOPIC, f"{engine.dialect.name} answers, and its schema is up to date.")
    return [available, assess_chain_end(heads, last_records)]


def assess_chain_end(heads: list[Row], last_records: list[Row]) -> Finding:
    """Compare the chain's head with its newest records.

    Args:
        heads: the rows of the head table, at most one.
        last_records: the last two records, newest first.
    """
    if not heads and not last_records:
        return ok(_CHAIN_TOPIC, "The chain is empty.")
    if not heads or not last_records:
        return fault(
            _CHAIN_TOPIC,
            "The chain's records or its head are missing: part of the audit was deleted. Run `spokes audit verify`.",
        )
    head, newest = heads[0], last_records[0]
    previous_hash = str(last_records[1]["hash"]) if len(last_records) > 1 else GENESIS
    is_linked = chain_hash(previous_hash, newest) == newest["hash"] or len(last_records) == 1
    if (head["seq"], head["hash"]) != (newest["seq"], newest["hash"]) or not is_linked:
        return fault(
            _CHAIN_TOPIC,
            f"The chain's head, record {head['seq']}, does not match the newest records: records were changed or "
            "deleted. Run `spokes audit verify` to find the first one.",
        )
    return ok(_CHAIN_TOPIC, f"The chain's head matches the newest record, {head['seq']:,}.", seq=head["seq"])
