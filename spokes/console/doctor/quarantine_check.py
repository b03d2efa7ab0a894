"""Check for quarantined elements, bodies and queued deliveries: what cannot be read as events."""

from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, fault, warning
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.queue.quarantine import Quarantine

TOPIC: Final = "quarantine"
_OPENED: Final = 20  # newest contents of each portal that are opened


async def check_quarantine(settings: Settings, redis: Redis) -> list[Finding]:
    """Return a finding if anything waits in quarantine."""
    try:
        quarantine = Quarantine.from_settings(redis, settings)
        portals = await quarantine.portals()
        sealed = sum([await quarantine.sealed_with_another_key(portal, _OPENED) for portal in portals])
        count = sum([await redis.zcard(keys.quarantine_index(portal)) for portal in portals])
    except (RedisError, OSError, TimeoutError):
        return []  # redis_check reports an unreachable Redis
    if not count:
        return []
    other_key = fault(
        TOPIC,
        f"Of the newest quarantined contents, {sealed} cannot be opened: their key is missing from "
        f"{'SECRETS_KEY' if settings.vault_keys else 'SECRETS_KEY, which is not set'}. Put the key of the deployment "
        "that stored them back.",
        sealed=sealed,
    )
    return [
        *([other_key] if sealed else []),
        warning(
            TOPIC,
            f"Elements, bodies and queued deliveries that could not be read: {count:,}. `spokes dead list "
            "--quarantined` says why; after a fix `spokes dead replay --quarantined` runs them.",
            quarantined=count,
        ),
    ]
