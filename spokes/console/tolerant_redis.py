"""Redis clients of commands, pages and the API, for keys that hold another type of value: something else wrote them.

`TolerantRedis` reads such a key as empty, and counts and alerts it: it must not keep an operator from seeing everything
else. Its writes and scripts, and all calls of `NamingRedis`, fail with an error that names the key.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from spokes.audit.alerts.bad_items import report_bad_items
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.key_types import name_wrong_keys

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


class NamingRedis(Redis):
    """See above."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command.

        Raises:
            WrongKeyType: a key of ours holds another type of value.
            RedisError: everything else.
        """
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py has no annotation
        except ResponseError as error:
            return await self._result_of_error(args, error)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "_NamingPipeline":
        """Return a pipeline that fails, or whose reading commands return the empty value, as commands do."""
        return _NamingPipeline(self, transaction, shard_hint)

    async def _result_of_error(self, args: tuple[Any, ...], error: ResponseError) -> object:
        """Return what a failed command returns nevertheless, or raise what describes its error."""
        raise await name_wrong_keys(self, error, args) from error


class TolerantRedis(NamingRedis):
    """See above."""

    async def _result_of_error(self, args: tuple[Any, ...], error: ResponseError) -> object:
        empty = _empty_value(args, error)
        if empty is None:
            return await super()._result_of_error(args, error)
        await report_bad_items(self, _PLACE, 1, key=_key(args))
        return empty()


class _NamingPipeline(Pipeline):
    def __init__(self, client: NamingRedis, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = list(self.command_stack)
        results = await super().execute(raise_on_error=False)
        for place, ((args, _), result) in enumerate(zip(commands, results, strict=False)):
            if isinstance(result, ResponseError):
                try:
                    results[place] = await self._client._result_of_error(args, result)  # noqa: SLF001 - its own pipeline
                except ResponseError as error:
                    results[place] = error
        if raise_on_error:
            self.raise_first_error(commands, results)
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
