"""Secrets that Spokes stores for a portal, such as OAuth tokens. In Redis they are always sealed."""

from typing import Final, NamedTuple

from redis.asyncio import Redis

from spokes.core.errors import SecretUnreadable
from spokes.core.redis.keys import SEALED_PREFIX
from spokes.core.redis.scripts import read_script
from spokes.core.vault import Vault

_KEYS_PER_SCAN: Final = 1000
_RESEAL_SCRIPT: Final = read_script(__file__, "reseal_secret.lua")


class StoredSecret(NamedTuple):
    """A stored secret: its portal, its name and its sealed form."""

    portal_id: int
    name: str
    sealed: bytes


class StoredSecrets:
    """The secrets of all portals, one Redis hash per portal."""

    def __init__(self, redis: Redis, vault: Vault) -> None:
        self._redis = redis
        self._vault = vault

    async def put(self, portal_id: int, name: str, text: str) -> None:
        """Store a secret; it replaces the one of the same name."""
        await self._redis.hset(f"{SEALED_PREFIX}{portal_id}", name, self._vault.seal(text))  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and forgets bytes

    async def read(self, portal_id: int, name: str) -> str | None:
        """Return a secret, None if there is none of that name.

        Raises:
            SecretUnreadable: none of our keys opens it.
        """
        sealed: bytes | None = await self._redis.hget(f"{SEALED_PREFIX}{portal_id}", name)  # type: ignore[misc]  # as above
        return None if sealed is None else self._vault.open(sealed)

    async def delete(self, portal_id: int, name: str) -> bool:
        """Delete a secret; return whether there was one."""
        return bool(await self._redis.hdel(f"{SEALED_PREFIX}{portal_id}", name))  # type: ignore[misc]  # as above

    async def list_all(self) -> list[StoredSecret]:
        """Return all secrets in their sealed form, sorted by portal and name."""
        secrets = []
        async for key in self._redis.scan_iter(match=f"{SEALED_PREFIX}*", count=_KEYS_PER_SCAN):
            portal = key.removeprefix(SEALED_PREFIX.encode())
            if not portal.isdigit():
                continue  # something else wrote it
            sealed_by_name = await self._redis.hgetall(key)  # type: ignore[misc]  # as above
            portal_id = int(portal)
            secrets += [
                StoredSecret(portal_id, name.decode(errors="replace"), sealed)
                for name, sealed in sealed_by_name.items()
            ]
        return sorted(secrets)

    async def reseal(self) -> tuple[int, list[StoredSecret]]:
        """Reseal the secrets sealed by an older key with the newest one.

        Return how many were resealed, and the secrets that none of our keys opens.
        """
        count, unreadable = 0, []
        script = self._redis.register_script(_RESEAL_SCRIPT)
        for secret in await self.list_all():
            if self._vault.uses_newest_key(secret.sealed):
                continue
            try:
                sealed = self._vault.reseal(secret.sealed)
            except SecretUnreadable:
                unreadable.append(secret)
                continue
            key = f"{SEALED_PREFIX}{secret.portal_id}"
            count += await script(keys=[key], args=[secret.name, secret.sealed, sealed])
        return count, unreadable
