"""Secrets that Spokes must keep for a portal, such as OAuth tokens. Rule: in Redis they stand sealed, or not at all."""

from typing import Final, NamedTuple

from redis.asyncio import Redis

from spokes.core.errors import SecretUnreadable
from spokes.core.vault import Vault

_KEY_PREFIX: Final = "spokes:sealed:"
_KEYS_PER_SCAN: Final = 1000  # keys
_RESEAL_SCRIPT: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end -- another has put a new one there meanwhile
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class StoredSecret(NamedTuple):
    """A secret that is kept: whose it is, what it is called, and how it is sealed."""

    portal_id: int
    name: str
    sealed: bytes


class StoredSecrets:
    """The secrets of all portals, in one hash of Redis for each."""

    def __init__(self, redis: Redis, vault: Vault) -> None:
        self._redis = redis
        self._vault = vault

    async def put(self, portal_id: int, name: str, text: str) -> None:
        """Keep a secret in place of the one that had its name."""
        await self._redis.hset(f"{_KEY_PREFIX}{portal_id}", name, self._vault.seal(text))  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and forgets bytes

    async def read(self, portal_id: int, name: str) -> str | None:
        """Return a secret, None when there is none of that name.

        Raises:
            SecretUnreadable: it is not sealed by a key of ours.
        """
        sealed: bytes | None = await self._redis.hget(f"{_KEY_PREFIX}{portal_id}", name)  # type: ignore[misc]  # as above
        return None if sealed is None else self._vault.open(sealed)

    async def delete(self, portal_id: int, name: str) -> bool:
        """Forget a secret; return whether there was one."""
        return bool(await self._redis.hdel(f"{_KEY_PREFIX}{portal_id}", name))  # type: ignore[misc]  # as above

    async def list_all(self) -> list[StoredSecret]:
        """Return all that are kept, by portal and name, as they are sealed."""
        found = []
        async for key in self._redis.scan_iter(match=f"{_KEY_PREFIX}*", count=_KEYS_PER_SCAN):
            held = await self._redis.hgetall(key)  # type: ignore[misc]  # as above
            portal_id = int(key.decode().removeprefix(_KEY_PREFIX))
            found += [StoredSecret(portal_id, name.decode(), sealed) for name, sealed in held.items()]
        return sorted(found)

    async def reseal(self) -> tuple[int, list[StoredSecret]]:
        """Seal with the newest key what an older one sealed; return how many, and those that no key of ours opens."""
        count, unreadable = 0, []
        script = self._redis.register_script(_RESEAL_SCRIPT)
        for one in await self.list_all():
            if self._vault.uses_newest_key(one.sealed):
                continue
            try:
                sealed = self._vault.reseal(one.sealed)
            except SecretUnreadable:
                unreadable.append(one)
                continue
            count += await script(keys=[f"{_KEY_PREFIX}{one.portal_id}"], args=[one.name, one.sealed, sealed])
        return count, unreadable
