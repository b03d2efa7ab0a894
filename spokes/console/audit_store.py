"""The audit store for the duration of one command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.core.settings import Settings


@asynccontextmanager
async def open_audit_store(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """Open the audit store, check its schema, and close it at the end.

    Raises:
        AuditUnavailable: the store does not answer, or its schema is not current.
    """
    engine = open_engine(settings.database_address)
    try:
        await schema.require_current(engine)
        yield engine
    finally:
        await engine.dispose()
