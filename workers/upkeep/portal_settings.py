"""Publish the settings of portals from SQL to Redis, where every process reads them: Redis may have lost them."""

from contextlib import suppress

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import open_engine
from spokes.core.errors import AuditUnavailable
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portals.profile_store import ProfileStore
from spokes.portals.published_profiles import publish


async def publish_profiles(settings: Settings, redis: Redis, engine: AsyncEngine | None = None) -> None:
    """Publish all settings that are stored; while the store does not answer, the published ones stay.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    own = engine or open_engine(settings.database_address)
    try:
        with suppress(AuditUnavailable):  # the archiver reports the outage
            await publish(redis, await ProfileStore(own, Vault.from_settings(settings)).read_all())
    finally:
        if engine is None:
            await own.dispose()
