"""Are the secrets that we keep sealed, and by the newest key. Rule: it names them and never opens one for show."""

from collections.abc import Iterator
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.errors import SecretUnreadable
from spokes.core.vault import Vault
from spokes.crm.transport.stored_secrets import Kept, Secrets

TOPIC: Final = "kept secrets"


async def check_secrets(redis: Redis, vault: Vault) -> list[Finding]:
    """Look at every secret that is kept in Redis."""
    try:
        kept = await Secrets(redis, vault).kept()
    except (RedisError, OSError, TimeoutError):
        return []  # that Redis does not answer is said once, by who looks at Redis
    return [*judge_secrets(kept, vault)]


def judge_secrets(kept: list[Kept], vault: Vault) -> Iterator[Finding]:
    """Judge how each is sealed."""
    for one in kept:
        if vault.is_newest(one.sealed):
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
    yield ok(TOPIC, f"{len(kept)} are kept.", kept=len(kept))
