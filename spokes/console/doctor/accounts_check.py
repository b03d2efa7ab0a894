"""Check that the console's accounts are sealed with this CONSOLE_KEY; others cannot log in."""

from collections.abc import Iterator
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.accounts.seals import Seals
from spokes.console.accounts.users import Users
from spokes.console.doctor.findings import Finding, warning
from spokes.core.settings import Settings

TOPIC: Final = "accounts"


async def check_accounts(settings: Settings, redis: Redis) -> list[Finding]:
    """Return a finding for accounts of an earlier version, and one for accounts that do not open."""
    if not settings.console_key.get_secret_value():
        return []
    try:
        users = Users(redis, Seals.from_settings(settings))
        unsealed, unopened = len(await users.unsealed()), await users.unopened_count()
    except (RedisError, OSError, TimeoutError):
        return []  # the checks of Redis report it
    return [*_assess(unsealed, unopened)]


def _assess(unsealed: int, unopened: int) -> Iterator[Finding]:
    if unsealed:
        yield warning(
            TOPIC,
            f"{unsealed} accounts of the console are not sealed and cannot log in. `spokes user seal` shows and "
            "seals them.",
            count=unsealed,
        )
    if unopened:
        yield warning(
            TOPIC,
            f"{unopened} accounts of the console do not open and cannot log in: they were sealed with another "
            "CONSOLE_KEY, or changed in Redis. Put that key back, or create them again with `spokes user add`.",
            count=unopened,
        )
