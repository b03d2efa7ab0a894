"""Find keys of ours that hold another type of value: something else wrote them, and every command on them fails."""

from collections.abc import Iterable, Mapping
from typing import Final

from redis.asyncio import Redis

from spokes.core.redis.key_table import KEYS
from spokes.core.redis.keys import AUDIT_STREAM, PAUSED_PORTALS, QUEUES

ADMISSION_KEYS: Final = (*QUEUES.values(), AUDIT_STREAM)  # no delivery is admitted without them
DELIVERY_KEYS: Final = (*ADMISSION_KEYS, PAUSED_PORTALS)  # no delivery is claimed or settled without them
_TYPE_NAMES: Final = {"sorted set": "zset"}  # Redis' own name where ours differs
FIXED_KEYS: Final = tuple(  # all keys of ours whose names have no parameters
    key.pattern
    for key in KEYS
    if "{" not in key.pattern and key.type != "channel" and key.pattern.startswith("spokes:")
)
_EXPECTED: Final[Mapping[str, str]] = {key.pattern: _TYPE_NAMES.get(key.type, key.type) for key in KEYS}


async def wrong_types(redis: Redis, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of these keys that exist with another type than `key_table` declares.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    names = tuple(names)
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.type(name)
        types = [stored.decode() for stored in await pipeline.execute()]
    return tuple(name for name, stored in zip(names, types, strict=True) if stored not in {"none", _EXPECTED[name]})


def wrong_type_sentence(names: Iterable[str]) -> str:
    """Return what to do about keys that `wrong_types` returned."""
    return (
        f"Redis holds another type of value at {', '.join(names)}: something else uses this Redis. Find it, then "
        "rename the key; Spokes creates its own."
    )
