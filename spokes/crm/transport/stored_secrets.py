"""Secrets that Spokes must keep for a portal, such as OAuth tokens. Rule: in Redis they stand sealed, or not at all."""

from typing import Final, NamedTuple

from redis.asyncio import Redis

from spokes.core.errors import SecretUnreadable
from spokes.core.vault import Vault

_START: Final = "spokes:sealed:"
_SCAN: Final = 1000  # keys
_RESEAL: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end -- another has put a new one there meanwhile
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class Kept(NamedTuple):
    """A secret that is kept: whose it is, what it is called, and how it is sealed."""

    portal_id: int
    name: str
    sealed: bytes


class Secrets:
    """The secrets of all portals, in one hash of Redis for each."""

    def __init__(self, redis: Redis, vault: Vault) -> None:
        self._redis = redis
        self._vault = vault

    async def keep(self, portal_id: int, name: str, text: str) -> None:
        """Keep a secret in place of the one that had its name."""
        await self._redis.hset(f"{_START}{portal_id}", name, self._vault.seal(text))  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and forgets bytes

    async def read(self, portal_id: int, name: str) -> str | None:
        """Return a secret, None when there is none of that name.

        Raises:
            SecretUnreadable: it is not sealed by a key of ours.
        """
        sealed: bytes | None = await self._redis.hget(f"{_START}{portal_id}", name)  # type: ignore[misc]  # as above
        return None if sealed is None else self._vault.open(sealed)

    async def drop(self, portal_id: int, name: str) -> bool:
        """Forget a secret; return whether there was one."""
        return bool(await self._redis.hdel(f"{_START}{portal_id}", name))  # type: ignore[misc]  # as above

    async def kept(self) -> list[Kept]:
        """Return all that are kept, by portal and name, as they are sealed."""
        found = []
        async for key in self._redis.scan_iter(match=f"{_START}*", count=_SCAN):
            held = await self._redis.hgetall(key)  # type: ignore[misc]  # as above
            portal_id = int(key.decode().removeprefix(_START))
            found += [Kept(portal_id, name.decode(), sealed) for name, sealed in held.items()]
        return sorted(found)

    async def reseal(self) -> tuple[int, list[Kept]]:
        """Seal with the newest key what an older one sealed; return how many, and those that no key of ours opens."""
        count, unreadable = 0, []
        script = self._redis.register_script(_RESEAL)
        for one in await self.kept():
            if self._vault.is_newest(one.sealed):
                continue
            try:
                sealed = self._vault.resealed(one.sealed)
            except SecretUnreadable:
                unreadable.append(one)
                continue
            count += await script(keys=[f"{_START}{one.portal_id}"], args=[one.name, one.sealed, sealed])
        return count, unreadable
