"""The copy of all profiles in Redis: web processes and workers read it every few seconds, and parse what they need.

SQL has the original (`ProfileStore`). A worker publishes it again if Redis has lost the copy.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import report_bad_items
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis.keys import PORTAL_PROFILES
from spokes.portals.profile import PortalProfile

REFRESH_EVERY_S: Final = 2.0
_VERSION: Final = "version"
_MAX_PARSED: Final = 1_000


async def publish(redis: Redis, profiles: Iterable[PortalProfile]) -> bool:
    """Replace the copy, unless it is the same; return whether it was replaced.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    stored = {str(profile.portal_id): profile.to_json() for profile in profiles}
    digest = hashlib.blake2b(repr(sorted(stored.items())).encode(), digest_size=8).hexdigest()
    version = await redis.hget(PORTAL_PROFILES, _VERSION)  # type: ignore[misc]  # redis-py types one class for sync and async
    if (version or b"").decode(errors="replace").partition(".")[0] == digest:
        return False
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.delete(PORTAL_PROFILES)
        # The random part shows a reader that the copy was replaced twice since.
        pipeline.hset(PORTAL_PROFILES, mapping={**stored, _VERSION: f"{digest}.{secrets.token_hex(4)}"})
        await pipeline.execute()
    return True


class PublishedProfiles:
    """The profiles as this process last read them; `restricted` has the portals with handlers or types switched off."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._version: bytes | None = None
        self._stored: dict[int, bytes] = {}
        self._parsed: dict[int, PortalProfile] = {}
        self.restricted: frozenset[int] = frozenset()

    async def refresh(self) -> bool:
        """Read the copy if it has changed; return whether it has. While Redis has none, the known one stays.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        version = await self._redis.hget(PORTAL_PROFILES, _VERSION)  # type: ignore[misc]  # as above
        if version is None or version == self._version:
            return False
        stored: Mapping[bytes, bytes] = await self._redis.hgetall(PORTAL_PROFILES)  # type: ignore[misc]  # as above
        self._stored = {int(name): value for name, value in stored.items() if name.isdigit()}
        self._version = stored.get(_VERSION.encode())
        self._parsed, unreadable = {}, 0
        restricted = set()
        for portal_id, value in list(self._stored.items()):
            if b'"handlers"' not in value and b'"events"' not in value:
                continue
            try:
                if PortalProfile.from_json(portal_id, value).is_restricted:
                    restricted.add(portal_id)
            except UnreadableDelivery:
                unreadable += 1
        if unreadable:
            await report_bad_items(self._redis, "portal_profile", unreadable)
        self.restricted = frozenset(restricted)
        return True

    def get(self, portal_id: int) -> PortalProfile:
        """Return a portal's profile, an empty one if nothing is set."""
        profile = self._parsed.get(portal_id)
        if profile is None:
            stored = self._stored.get(portal_id)
            try:
                profile = PortalProfile.from_json(portal_id, stored) if stored else PortalProfile(portal_id)
            except UnreadableDelivery:
                profile = PortalProfile(portal_id)
            if len(self._parsed) >= _MAX_PARSED:
                self._parsed.pop(next(iter(self._parsed)))
            self._parsed[portal_id] = profile
        return profile
