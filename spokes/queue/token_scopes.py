"""The scopes that HubSpot reported for the access token of each portal when a worker last started."""

from collections.abc import Collection
from typing import Final

import orjson
from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import read_items
from spokes.core import clock
from spokes.core.redis.keys import TOKEN_SCOPES

_VALID_MS: Final = 90 * 86_400_000  # an older report says nothing about today's token


async def report_scopes(redis: Redis, portal_id: int, scopes: Collection[str]) -> None:
    """Store the scopes of a portal's token, in place of those stored before.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    stored = orjson.dumps({"at": clock.now_ms(), "scopes": sorted(scopes)})
    await redis.hset(TOKEN_SCOPES, str(portal_id), stored.decode())  # type: ignore[misc]  # redis-py types one class for sync and async


async def reported_scopes(redis: Redis) -> dict[int, frozenset[str]]:
    """Return the scopes by portal.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    stored: dict[bytes, bytes] = await redis.hgetall(TOKEN_SCOPES)  # type: ignore[misc]  # as above
    reports = await read_items(redis, "token_scopes", stored.items(), _read_report)
    oldest = clock.now_ms() - _VALID_MS
    return {portal_id: scopes for portal_id, at, scopes in reports if at >= oldest}


def _read_report(item: tuple[bytes, bytes]) -> tuple[int, int, frozenset[str]]:
    report = orjson.loads(item[1])
    return int(item[0]), int(report["at"]), frozenset(map(str, report["scopes"]))
