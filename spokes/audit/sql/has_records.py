"""`python -m spokes.audit.sql.has_records`: exit code 0 if the audit store holds records or does not answer, 3 if not.

A process of its own, because the web process does not load SQLAlchemy.
"""

import asyncio
import sys
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.engine import make_url

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.core.errors import AuditUnavailable
from spokes.core.settings import Settings


async def has_records(address: str) -> bool:
    """Return whether the store at `address` holds a record; true if it does not answer, because it may."""
    file = make_url(address).database if address.startswith("sqlite") else None
    if file and not await asyncio.to_thread(Path(file).is_file):
        return False
    engine = open_engine(address)
    try:
        return await schema.revision(engine) is not None and bool(await fetch(engine, select(RECORDS.c.seq).limit(1)))
    except AuditUnavailable:
        return True
    finally:
        await engine.dispose()


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(has_records(Settings.from_env().database_address)) else 3)
