"""A Redis client for readers: a key that holds another type of value reads as empty, and is counted and alerted.

Something else wrote such a key. It must not keep an operator from seeing everything else. Writes and scripts fail as
with any client.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from spokes.audit.bad_items import report_bad_items
from spokes.core.redis.errors import RedisFault, classify

_PLACE: Final = "wrong_type"
_EMPTY: Final[Mapping[str, Callable[[], object]]] = {  # what each reading command returns for a missing key
    **dict.fromkeys(("GET", "HGET", "LINDEX", "ZSCORE", "ZRANK", "ZREVRANK"), lambda: None),
    **dict.fromkeys(("HLEN", "LLEN", "SCARD", "STRLEN", "XLEN", "ZCARD", "ZCOUNT"), lambda: 0),
    **dict.fromkeys(("HKEYS", "HVALS", "LRANGE", "XRANGE", "XREVRANGE"), list),
    **dict.fromkeys(("ZRANGE", "ZRANGEBYSCORE", "ZREVRANGE", "ZREVRANGEBYSCORE"), list),
    "HGETALL": dict,
    "SISMEMBER": lambda: 0,
    "SMEMBERS": set,
}
_EMPTY_LISTS: Final = frozenset({"HMGET", "ZMSCORE"})  # one element for each argument behind the key


class TolerantRedis(Redis):
    """See above."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command; a reading one returns the empty value if the key holds another type.

        Raises:
            RedisError: everything else.
        """
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py has no annotation
        except ResponseError as error:
            empty = _empty_value(args, error)
            if empty is None:
                raise
            await report_bad_items(self, _PLACE, 1, key=_key(args))
            return empty()

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "_TolerantPipeline":
        """Return a pipeline whose reading commands return the empty value if the key holds another type."""
        return _TolerantPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _TolerantPipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = list(self.command_stack)
        results = await super().execute(raise_on_error=False)
        wrong: list[str] = []
        for place, ((args, _), result) in enumerate(zip(commands, results, strict=False)):
            if isinstance(result, ResponseError) and (empty := _empty_value(args, result)):
                results[place] = empty()
                wrong.append(_key(args))
        if raise_on_error:
            self.raise_first_error(commands, results)
        for key in wrong:
            await report_bad_items(TolerantRedis(connection_pool=self.connection_pool), _PLACE, 1, key=key)
        return results


def _key(args: tuple[Any, ...]) -> str:
    """Return the key of a reading command."""
    key = args[1]
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)


def _empty_value(args: tuple[Any, ...], error: ResponseError) -> Callable[[], object] | None:
    """Return what makes the empty value of a reading command on a key of another type; None for all other errors."""
    name = str(args[0]).upper()
    if classify(error) is not RedisFault.WRONG_TYPE:
        return None
    if name in _EMPTY_LISTS:
        return lambda: [None] * (len(args) - 2)
    return _EMPTY.get(name)
