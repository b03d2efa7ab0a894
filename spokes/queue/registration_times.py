"""The times at which a worker first had each registration, and at which an event first matched it."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.bad_items import read_items
from spokes.core import clock
from spokes.core.redis.keys import REGISTRATIONS
from spokes.routing import Router

RECORD_EVERY_S: Final = 60.0
_REGISTERED: Final = "registered"
_SEEN: Final = "seen"


@dataclass(slots=True)
class RegistrationTimes:
    """Records the times of a worker's registrations."""

    redis: Redis
    router: Router
    _has_removed_others: bool = False

    async def record(self) -> None:
        """Store missing times; the first call deletes the times of registrations that the router does not have.

        A registration that is removed and added again gets new times. Later calls remove nothing, because a worker of
        another version may have further registrations.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        if not self._has_removed_others:
            stored: list[bytes] = await self.redis.hkeys(REGISTRATIONS)  # type: ignore[misc]  # redis-py types one class for sync and async
            own = {_field(kind, name).encode() for kind in (_REGISTERED, _SEEN) for name in self.router.registrations}
            if others := [field for field in stored if field not in own]:
                await self.redis.hdel(REGISTRATIONS, *others)  # type: ignore[misc, arg-type]  # as above; bytes are fields too
            self._has_removed_others = True
        now_ms = str(clock.now_ms())
        async with self.redis.pipeline(transaction=False) as pipeline:
            for kind, names in ((_REGISTERED, self.router.registrations), (_SEEN, self.router.matched_registrations)):
                for name in names:
                    pipeline.hsetnx(REGISTRATIONS, _field(kind, name), now_ms)
            await pipeline.execute()

    async def close(self) -> None:
        """Store the times of matches since the last call of `record`."""
        with suppress(RedisError, OSError):
            await self.record()


class RegistrationTime(NamedTuple):
    """When a worker first had a registration, and when an event first matched it, None if none has; epoch ms."""

    registered_at: int
    matched_at: int | None


async def registration_times(redis: Redis) -> dict[str, RegistrationTime]:
    """Return the times of each registration.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    stored: dict[bytes, bytes] = await redis.hgetall(REGISTRATIONS)  # type: ignore[misc]  # as above
    times = dict(await read_items(redis, "registration", stored.items(), _read_time))
    return {
        name: RegistrationTime(at, times.get((_SEEN, name)))
        for (kind, name), at in times.items()
        if kind == _REGISTERED
    }


def _field(kind: str, registration: str) -> str:
    return f"{kind} {registration}"


def _read_time(item: tuple[bytes, bytes]) -> tuple[tuple[str, str], int]:
    kind, _, registration = item[0].decode().partition(" ")
    return (kind, registration), int(item[1])
