"""Fixtures of upkeep tests: an archive in SQLite, and settings with low thresholds."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql import schema
from spokes.core.settings import Settings


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Return the address of an SQLite file: these tests do not depend on the database."""
    return f"sqlite:///{tmp_path}/audit.sqlite"


@pytest.fixture
def settings(environ: dict[str, str], database_url: str) -> Settings:
    values = {"DATABASE_URL": database_url, "WATCH_DELETIONS": "30", "AUDIT_BACKLOG": "5", "AUDIT_DAYS": "10"}
    return Settings.from_env({**environ, **values})


@pytest.fixture
async def store(engine: AsyncEngine) -> AsyncEngine:
    await schema.upgrade(engine)
    return engine
