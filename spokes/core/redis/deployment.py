"""Which deployment a Redis database belongs to, and which versions may use it.

The first process writes a keyed hash of AUDIT_KEY and the format of what it stores. A process of another deployment
would run the first one's events with its own credentials, so it refuses to start. A database without a fingerprint,
such as that of an earlier version, is taken over silently.
"""

import asyncio
import os
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import ConfigurationError
from spokes.core.masking import derive_key, keyed_hash
from spokes.core.master_key import shared_master_key
from spokes.core.process.child_command import module_command, module_environment
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.key_types import move_aside
from spokes.core.redis.keys import AUDIT_STREAM, DEFAULT_QUEUE, DEPLOYMENT, METRIC_TOTALS, QUEUES
from spokes.core.redis.scripts import read_script
from spokes.core.settings import Settings
from spokes.core.settings.strength import TOO_WEAK

log = structlog.get_logger()

FORMAT: Final = 2  # of what we store; 1 is that of versions that used arq's default queue
_NO_RECORDS: Final = 3  # exit code of spokes.audit.sql.has_records
_OLDEST_READ: Final = 1
_OLDEST_BESIDE: Final = 1  # processes that write this format, or a newer one, may run beside us
_SCRIPT: Final = read_script(__file__, "deployment.lua")
_OTHER_KEY: Final = (
    "The Redis database of REDIS_URL belongs to another deployment of Spokes: its AUDIT_KEY differs from ours, and "
    "each would run the other's events. Give this deployment a Redis database of its own, or set the AUDIT_KEY of "
    "the deployment it belongs to. docs/operations.md says how to change AUDIT_KEY on purpose."
)
_NO_KEY: Final = (
    "AUDIT_KEY is not set, and the Redis database belongs to a deployment with a key. Set AUDIT_KEY to the key of that "
    "deployment, or give this one a Redis database of its own. docs/operations.md says how to change AUDIT_KEY on "
    "purpose."
)
_SENTENCES: Final = {
    "newer": (
        "The Redis database of REDIS_URL is used by a newer version of Spokes, which this version cannot run beside. "
        "Deploy the newer version for all processes."
    ),
    "older": (
        "The Redis database of REDIS_URL holds data of a version of Spokes that this version cannot read. Let workers "
        "of that version, or of one in between, empty the queue first."
    ),
}


async def claim_database(redis: Redis, settings: Settings) -> None:
    """Take possession of the database, or check that it is this deployment's.

    Raises:
        ConfigurationError: the database belongs to another deployment, or to versions that this one cannot run beside;
            or AUDIT_KEY is weak, and no records exist that need it.
        RedisError, OSError: Redis does not answer; nothing is known.
    """
    if settings.has_weak_audit_key:
        if not await _has_records(redis, settings):
            raise ConfigurationError([f"AUDIT_KEY {TOO_WEAK}. It cannot be changed once there are records."])
        log.warning("weak_audit_key", advice="AUDIT_KEY is short enough to guess, but the records need it: keep it.")
    state = await database_state(redis, settings)
    if state == "other":
        raise ConfigurationError([other_deployment_sentence(settings)])
    if sentence := _SENTENCES.get(state):
        raise ConfigurationError([sentence])


async def _has_records(redis: Redis, settings: Settings) -> bool:
    """Return whether this deployment has run before: its records need the same AUDIT_KEY."""
    if await redis.exists(DEPLOYMENT, AUDIT_STREAM, *QUEUES.values(), DEFAULT_QUEUE, METRIC_TOTALS):
        return True
    environ = {**os.environ, "ENV_FILE": "", **_store_environ(settings)}
    command = module_command("spokes.audit.sql.has_records")  # a process of its own: core does not know the archive
    child = await asyncio.create_subprocess_exec(
        *command, env=module_environment(environ), stderr=asyncio.subprocess.DEVNULL
    )
    return await child.wait() != _NO_RECORDS


def _store_environ(settings: Settings) -> dict[str, str]:
    return {"DATABASE_URL": settings.database_url.get_secret_value(), "DATA_DIR": str(settings.data_dir)}


async def database_state(redis: Redis, settings: Settings) -> str:
    """Take possession of a free database; return "ok", or what differs: "other", "newer" or "older"."""
    args = (fingerprint(settings), FORMAT, _OLDEST_READ, _OLDEST_BESIDE)
    try:
        state: bytes = await redis.register_script(_SCRIPT)(keys=[DEPLOYMENT], args=args)
    except RedisError as error:
        if classify(error) is RedisFault.FULL:  # free or of an earlier version: the next start takes possession
            return "ok"
        if classify(error) is RedisFault.WRONG_TYPE and await move_aside(redis, DEPLOYMENT):
            log.warning("deployment_replaced", advice="Something else wrote spokes:deployment; find what it was.")
            return await database_state(redis, settings)
        raise
    return state.decode()


async def refuse_other_deployment(redis: Redis, settings: Settings) -> None:
    """Check a database without taking possession; without a key of the deployment nothing can be compared.

    Raises:
        ConfigurationError: the database belongs to another deployment.
        RedisError, OSError: Redis does not answer.
    """
    ours = fingerprint(settings)
    stored = await redis.hget(DEPLOYMENT, "fingerprint") if ours else None  # type: ignore[misc]  # redis-py types one class for sync and async
    if stored and stored.decode(errors="replace") != ours:
        raise ConfigurationError([other_deployment_sentence(settings)])


def other_deployment_sentence(settings: Settings) -> str:
    """Return why the database is not this deployment's, and what to do."""
    return _OTHER_KEY if settings.audit_key.get_secret_value() else _NO_KEY


def fingerprint(settings: Settings) -> str:
    """Return a keyed hash of AUDIT_KEY, or of the key in DATA_DIR beside an embedded Valkey; else an empty text.

    Without AUDIT_KEY each machine generates a key of its own, so its key says nothing about the deployment.
    """
    master_key = shared_master_key(settings)
    return keyed_hash(derive_key(master_key, "deployment"), "deployment") if master_key else ""
