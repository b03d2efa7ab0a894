"""Check before serving that the Redis database is this deployment's; while Redis is away, keep checking in a thread."""

import asyncio
import os
import sys
import threading
import time
from typing import Final

import structlog
from redis.exceptions import RedisError

from spokes.core.errors import ConfigurationError
from spokes.core.redis.connections import redis_client
from spokes.core.redis.deployment import claim_database
from spokes.core.settings import Settings

_RETRY_S: Final = 1.0
log = structlog.get_logger()


def check_database(settings: Settings) -> None:
    """Refuse another deployment's database; a web process starts without Redis, and is ended if the answer comes late.

    Raises:
        ConfigurationError: the database belongs to another deployment, or to versions that this one cannot run beside.
    """
    if not asyncio.run(_is_checked(settings)):
        threading.Thread(target=_check_later, args=(settings,), name="database check", daemon=True).start()


def _check_later(settings: Settings) -> None:
    try:
        while not asyncio.run(_is_checked(settings)):
            time.sleep(_RETRY_S)
    except ConfigurationError as error:
        log.error("database_of_another_deployment", advice=str(error))  # noqa: TRY400 - no bug: a traceback says nothing
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - the last message of a process that must not run
        os._exit(2)


async def _is_checked(settings: Settings) -> bool:
    """Return whether Redis answered."""
    redis = redis_client(settings, max_connections=1)
    try:
        await claim_database(redis, settings)
    except (RedisError, OSError, TimeoutError):
        return False
    finally:
        await redis.aclose()
    return True
