"""Does the audit store answer, is it migrated, and does its chain end as it says. Rule: it only reads."""

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


async def check_audit_store(settings: Settings) -> list[Finding]:
    """Look at the tables and at the last two records of the chain; `audit verify` walks all of it."""
    engine = open_engine(settings.database_address, statement_timeout_s=10.0)
    try:
        await schema.require_current(engine)
        heads = await fetch(engine, select(HEAD.c.seq, HEAD.c.hash))
        last = await fetch(engine, select(RECORDS).order_by(RECORDS.c.seq.desc()).limit(2))
    except AuditUnavailable as error:
        # The stream in Redis keeps the records meanwhile, so nothing is lost.
        return [warning(TOPIC, f"{error}. Records wait in Redis until it answers.".replace("..", "."))]
    finally:
        await engine.dispose()
    found = ok(TOPIC, f"{engine.dialect.name} answers, and its tables are those of this code.")
    return [found, assess_chain_end(heads, last)]


def assess_chain_end(heads: list[Row], last_records: list[Row]) -> Finding:
    """Judge the end of the chain.

    Args:
        heads: the rows of the head, at most one.
        last: the last two records, the newest first.
    """
    if not heads and not last_records:
        return ok("audit chain", "It is empty.")
    if not heads or not last_records:
        return fault("audit chain", "Its records or its end are gone: see `spokes audit verify`.")
    head, newest = heads[0], last_records[0]
    before = str(last_records[1]["hash"]) if len(last_records) > 1 else GENESIS
    follows = chain_hash(before, newest) == newest["hash"] or len(last_records) == 1
    if (head["seq"], head["hash"]) != (newest["seq"], newest["hash"]) or not follows:
        return fault("audit chain", f"Its end, {head['seq']}, does not fit its records: see `spokes audit verify`.")
    return ok("audit chain", f"It ends as it says, at record {head['seq']:,}.", seq=head["seq"])
