"""Check that the console's accounts are sealed with this CONSOLE_KEY; others cannot log in."""

from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.accounts.seals import Seals
from spokes.console.accounts.users import Users
from spokes.console.doctor.findings import Finding, warning
from spokes.core.settings import Settings

TOPIC: Final = "accounts"


async def check_accounts(settings: Settings, redis: Redis) -> list[Finding]:
    """Return a finding if accounts of an earlier version wait to be sealed."""
    if not settings.console_key.get_secret_value():
        return []
    try:
        unsealed = await Users(redis, Seals.from_settings(settings)).unsealed()
    except (RedisError, OSError, TimeoutError):
        return []  # the checks of Redis report it
    if not unsealed:
        return []
    return [
        warning(
            TOPIC,
            f"{len(unsealed)} accounts of the console are not sealed and cannot log in. `spokes user seal` shows and "
            "seals them.",
            count=len(unsealed),
        )
    ]
