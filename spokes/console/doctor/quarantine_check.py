"""Check for quarantined elements, bodies and queued deliveries: what nobody can read as events."""

from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, warning
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.queue.quarantine import Quarantine

TOPIC: Final = "quarantine"


async def check_quarantine(settings: Settings, redis: Redis) -> list[Finding]:
    """Return a finding if anything waits in quarantine."""
    try:
        portals = await Quarantine.from_settings(redis, settings).portals()
        count = sum([await redis.zcard(keys.quarantine_index(portal)) for portal in portals])
    except (RedisError, OSError, TimeoutError):
        return []  # redis_check reports an unreachable Redis
    if not count:
        return []
    return [
        warning(
            TOPIC,
            f"Elements, bodies and queued deliveries that could not be read: {count:,}. `spokes dead list "
            "--quarantined` says why; after a fix `spokes dead replay --quarantined` runs them.",
            quarantined=count,
        )
    ]
