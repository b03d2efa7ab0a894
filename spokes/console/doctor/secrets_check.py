"""Are the secrets that we keep sealed, and by the newest key. Rule: it names them and never opens one for show."""

from collections.abc import Iterator
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.errors import SecretUnreadable
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import StoredSecret, StoredSecrets

TOPIC: Final = "kept secrets"


async def check_stored_secrets(redis: Redis, vault: Vault) -> list[Finding]:
    """Look at every secret that is kept in Redis."""
    try:
        kept = await StoredSecrets(redis, vault).list_all()
    except (RedisError, OSError, TimeoutError):
        return []  # that Redis does not answer is said once, by who looks at Redis
    return [*assess_secrets(kept, vault)]


def assess_secrets(stored: list[StoredSecret], vault: Vault) -> Iterator[Finding]:
    """Judge how each is sealed."""
    for one in stored:
        if vault.uses_newest_key(one.sealed):
            continue
        name = f"{one.name} of portal {one.portal_id}"
        try:
            vault.open(one.sealed)
        except SecretUnreadable:
            yield fault(
                TOPIC, f"{name} is not sealed, or by a key that SECRETS_KEY lacks: put the key back, or keep it anew."
            )
        else:
            yield warning(TOPIC, f"{name} is sealed by an older key: run `spokes secrets reseal`.")
    yield ok(TOPIC, f"{len(stored)} are kept.", kept=len(stored))
