"""The age of each HubSpot secret: when a worker first saw it, by a fingerprint in Redis."""

import re
from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.masking import derive_key, keyed_hash
from spokes.core.master_key import load_master_key
from spokes.core.redis.keys import SECRETS_FIRST_SEEN
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert

_DAY_MS: Final = 86_400_000
ACCESS_TOKEN: Final = "HUBSPOT_ACCESS_TOKEN"  # noqa: S105 - the variable's name
AGE_ALERTS: Final = ((90, Alert.SECRET_OLD, "error"), (75, Alert.SECRET_AGEING, "warning"))  # days


async def secret_ages(settings: Settings, redis: Redis) -> list[tuple[str, int]]:
    """Return the environment variable and age in days of each secret that workers have seen.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    seen: dict[bytes, bytes] = await redis.hgetall(SECRETS_FIRST_SEEN)  # type: ignore[misc]  # redis-py types one class for sync and async
    now_ms = clock.now_ms()
    return [
        (name, (now_ms - int(first_seen)) // _DAY_MS)
        for fingerprint, name in secret_fingerprints(settings).items()
        if (first_seen := seen.get(fingerprint.encode(), b"")).isdigit()
    ]


def is_fingerprint(text: str) -> bool:
    """Return whether the text has the form of a secret's fingerprint."""
    return re.fullmatch("[0-9a-f]{16}", text) is not None


def secret_fingerprints(settings: Settings) -> dict[str, str]:
    """Return the environment variable of each secret, by the secret's fingerprint."""
    names = dict.fromkeys(settings.client_secrets, "HUBSPOT_CLIENT_SECRET")
    if token := settings.hubspot_access_token.get_secret_value():
        names[token] = ACCESS_TOKEN
    fingerprint = fingerprinter(settings)
    return {fingerprint(secret): name for secret, name in names.items()}


def fingerprinter(settings: Settings) -> Callable[[str], str]:
    """Return the function that makes the fingerprint of a secret: 16 hex digits, which do not reveal it."""
    key = derive_key(load_master_key(settings), "secret fingerprints")
    return lambda secret: keyed_hash(key, secret)[:16]


def token_fingerprint(settings: Settings) -> str:
    """Return the fingerprint of HUBSPOT_ACCESS_TOKEN, empty if it is not set. Audit records name the token by it."""
    names = secret_fingerprints(settings).items()
    return next((fingerprint for fingerprint, name in names if name == ACCESS_TOKEN), "")


def alert_for_age(days: int) -> Alert | None:
    """Return the alert for a secret of this age in days, or None."""
    return next((alert for min_days, alert, _ in AGE_ALERTS if days >= min_days), None)
