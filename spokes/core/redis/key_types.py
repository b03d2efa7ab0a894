"""Keys of ours that hold another type of value: something else wrote them, and every command on them fails.

Such a value is renamed, so that Spokes goes on with a key of its own. What the key held before is lost.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from redis.asyncio import Redis

from spokes.core.redis.key_table import KEYS
from spokes.core.redis.keys import AUDIT_STREAM, PAUSED_PORTALS, QUEUES, foreign_value
from spokes.core.redis.scripts import read_script

ADMISSION_KEYS: Final = (*QUEUES.values(), AUDIT_STREAM)  # no delivery is admitted without them
DELIVERY_KEYS: Final = (*ADMISSION_KEYS, PAUSED_PORTALS)  # no delivery is claimed or settled without them
_MOVE_ASIDE: Final = read_script(__file__, "move_aside.lua")
_FOREIGN_TTL_S: Final = 30 * 86_400
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


async def move_aside(redis: Redis, name: str, known: Mapping[str, bytes | str] | None = None) -> bool:
    """Rename a key of ours if it holds another type of value; return whether it did.

    Args:
        redis: where the key is.
        name: one of FIXED_KEYS.
        known: fields and values of our hash as we know them, which are stored again.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    fields = [part for item in (known or {}).items() for part in item]
    script = redis.register_script(_MOVE_ASIDE)
    return bool(await script(keys=[name, foreign_value(name)], args=[_EXPECTED[name], _FOREIGN_TTL_S, *fields]))


def wrong_type_sentence(names: Iterable[str]) -> str:
    """Return what to do about keys that `wrong_types` returned."""
    return (
        f"Redis holds another type of value at {', '.join(names)}: something else uses this Redis. Find it. Workers "
        "rename the key within seconds, and Spokes creates its own."
    )
