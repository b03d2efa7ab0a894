"""Check the secrets stored in Redis: each is encrypted with the newest key of SECRETS_KEY. No secret is shown."""

from collections.abc import Iterator
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.errors import SecretUnreadable
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import StoredSecret, StoredSecrets

TOPIC: Final = "stored secrets"


async def check_stored_secrets(redis: Redis, vault: Vault) -> list[Finding]:
    """Check every secret that is stored in Redis."""
    try:
        stored = await StoredSecrets(redis, vault).list_all()
    except (RedisError, OSError, TimeoutError):
        return []  # redis_check reports an unreachable Redis
    return [*assess_secrets(stored, vault)]


def assess_secrets(stored: list[StoredSecret], vault: Vault) -> Iterator[Finding]:
    """Check by which key each secret is encrypted."""
    for secret in stored:
        if vault.uses_newest_key(secret.sealed):
            continue
        name = f"{secret.name} of portal {secret.portal_id}"
        try:
            vault.open(secret.sealed)
        except SecretUnreadable:
            yield fault(
                TOPIC,
                f"{name} cannot be decrypted: it is not encrypted, or its key is missing from SECRETS_KEY. Put the key "
                "back, or store the secret again.",
            )
        else:
            yield warning(TOPIC, f"{name} is encrypted with an older key. Run `spokes secrets reseal`.")
    yield ok(TOPIC, f"Secrets stored in Redis: {len(stored)}.", kept=len(stored))
