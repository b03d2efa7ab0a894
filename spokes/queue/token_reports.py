"""What each worker reported about its access token, per portal: fingerprint, and whether HubSpot refuses it."""

from typing import Final, NamedTuple, Self

import orjson
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from spokes.audit.alerts.bad_items import read_items
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.redis.errors import RedisFault, classify

REPORT_EVERY_S: Final = 5.0
_LIVE_S: Final = 15.0  # after its last report, a worker counts as running
_KEEP_S: Final = 3600  # the reports of a portal, after the last one


class TokenReport(NamedTuple):
    """The access token of one worker.

    Attributes:
        worker: the name of the worker process.
        fingerprint: of the token, see `secret_fingerprints`.
        is_refused: whether the worker has stopped its work for the portal because HubSpot refuses the token.
        at_s: epoch seconds.
    """

    worker: str
    fingerprint: str
    is_refused: bool
    at_s: float

    @classmethod
    def from_stored(cls, item: tuple[bytes, bytes]) -> Self:
        """Parse a field of the hash in Redis."""
        stored = orjson.loads(item[1])
        return cls(item[0].decode(), str(stored["fingerprint"]), bool(stored["refused"]), float(stored["at"]))


class TokenReports:
    """The reports of all workers, one Redis hash per portal."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def put(self, portal_id: int, worker: str, fingerprint: str, *, is_refused: bool) -> None:
        """Replace a worker's report."""
        key = keys.token_reports(portal_id)
        stored = orjson.dumps({"fingerprint": fingerprint, "refused": is_refused, "at": clock.now_s()})
        try:
            await self._redis.hset(key, worker, stored.decode())  # type: ignore[misc]  # redis-py types one class for sync and async
        except ResponseError as error:
            if classify(error) is not RedisFault.WRONG_TYPE:
                raise
            await self._redis.delete(key)  # something else wrote it; the next reports come in seconds
        await self._redis.expire(key, _KEEP_S)

    async def remove(self, portal_id: int, worker: str) -> None:
        """Delete the report of a worker that ends."""
        await self._redis.hdel(keys.token_reports(portal_id), worker)  # type: ignore[misc]  # as above

    async def live(self, portal_id: int) -> list[TokenReport]:
        """Return the reports of live workers; delete those of workers that are gone."""
        key, fresh_s = keys.token_reports(portal_id), clock.now_s() - _LIVE_S
        stored = await self._redis.hgetall(key)  # type: ignore[misc]  # as above
        reports = await read_items(self._redis, "token_report", stored.items(), TokenReport.from_stored)
        if gone := [report.worker for report in reports if report.at_s < fresh_s]:
            await self._redis.hdel(key, *gone)  # type: ignore[misc]  # as above
        return [report for report in reports if report.at_s >= fresh_s]
