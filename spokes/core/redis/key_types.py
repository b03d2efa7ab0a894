"""Keys of ours that hold another type of value: something else wrote them, and every command on them fails.

Such a value is renamed, so that Spokes goes on with a key of its own. What the key held before is lost.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from spokes.core.redis.errors import RedisFault, classify
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
_WORKERS_REMEDY: Final = (
    "Workers rename the key within seconds, and Spokes creates its own; if no worker runs, start one."
)
_PARAMETER: Final = re.compile(r"\\{\w+\\}")  # in an escaped pattern


class WrongKeyType(ResponseError):
    """A command failed because keys of ours hold another type of value; the text is a sentence that names them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Describe the keys `names`."""
        super().__init__(f"WRONGTYPE {wrong_type_sentence(names)}")
        self.names = names


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
    return tuple(
        name for name, stored in zip(names, types, strict=True) if stored not in {"none", *_expected_types(name)}
    )


async def name_wrong_keys(redis: Redis, error: ResponseError, arguments: Iterable[object]) -> ResponseError:
    """Return a WrongKeyType in place of Redis' WRONGTYPE, which names no key; all other errors as they are.

    Args:
        redis: where the command failed.
        error: of the command.
        arguments: of the command; those that are names of our keys are examined.
    """
    if classify(error) is not RedisFault.WRONG_TYPE:
        return error
    texts = (part.decode(errors="replace") if isinstance(part, bytes) else part for part in arguments)
    names = dict.fromkeys(text for text in texts if isinstance(text, str) and _expected_types(text))
    try:
        wrong = await wrong_types(redis, names)
    except (RedisError, OSError):
        return error
    return WrongKeyType(wrong) if wrong else error


def _expected_types(name: str) -> frozenset[str]:
    """Return the types that a key may have, none if it is not ours."""
    if exact := _EXPECTED.get(name):
        return frozenset({exact})
    return frozenset(type_ for pattern, type_ in _patterns() if pattern.fullmatch(name))


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return the expressions of the keys whose names have parameters, with their types."""
    return tuple(
        (re.compile(_PARAMETER.sub(".+", re.escape(pattern)), re.DOTALL), type_)
        for pattern, type_ in _EXPECTED.items()
        if "{" in pattern
    )


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
    names = tuple(names)
    remedy = _WORKERS_REMEDY if set(names) <= set(FIXED_KEYS) else "Then rename the key, or delete it."
    return f"Redis holds another type of value at {', '.join(names)}: something else uses this Redis. Find it. {remedy}"
