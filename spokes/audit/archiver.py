"""Stream to SQL, in batches, chained. Rule: an entry leaves the stream after its record is committed, never before.

Each record is archived exactly once: whoever extends the chain locks its head, leaves out what is already there, and
only then inserts. A crash between the commit and the removal from the stream therefore repeats nothing.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alert_episodes import Episodes
from spokes.audit.chain_writer import Extension
from spokes.audit.records import Action
from spokes.audit.rows import Row, to_row
from spokes.audit.sql import partitions, schema
from spokes.audit.sql.engine import open_engine, writing
from spokes.audit.stream import FIELD
from spokes.core.delivery import AUDIT_STREAM
from spokes.core.errors import AuditUnavailable, UnreadableDelivery
from spokes.core.redis.leader_lock import Lease
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.metrics import ARCHIVED

_LEASE: Final = f"{AUDIT_STREAM}:archiver"
_GROWTH: Final = 8  # a batch of 4,000 costs a third less per record than one of 500
_STANDBY_S: Final = 1.0  # how often a process that is not elected asks again
_log = structlog.get_logger()


class _Batch(NamedTuple):
    read: int  # entries
    archived: int  # records; fewer than `read` where some were already there


class Archiver:
    """Carries records from the Redis stream to the store; every worker process runs one, one of them is elected.

    Args:
        master: `Settings.master_key()`; keys of its own are derived for signatures and for hashes of ids.
        batch: records in one transaction; up to eight times as many while more are waiting than that.
        every: records between two checkpoints.
        idle_s: seconds between looks at the stream once it is empty; also how long records gather.
        retry_s: seconds between attempts while the store does not answer.
    """

    def __init__(
        self, redis: Redis, engine: AsyncEngine, master: str, *, batch: int = 500, every: int = 10_000,
        idle_s: float = 0.2, retry_s: float = 2.0,
    ) -> None:  # fmt: skip
        self._redis = redis
        self._engine = engine
        self._episodes = Episodes(redis)
        self._batch = batch
        self._most = batch * _GROWTH
        self._next = batch  # how many to take next time
        self._extension = Extension(master, every)
        self._idle_s = idle_s
        self._retry_s = retry_s
        self._ready = False

    @classmethod
    def open(cls, settings: Settings, redis: Redis) -> Self:
        """Build an archiver with an engine of its own, which `close` ends."""
        engine = open_engine(settings.database_address)
        return cls(redis, engine, settings.master_key(), every=settings.checkpoint_every)

    async def close(self) -> None:
        """Close the connections to the store."""
        await self._engine.dispose()

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Archive until `stop` is set or the task is cancelled; wait out what is down, and alert once each time."""
        stop = stop or asyncio.Event()
        lease = Lease(self._redis, _LEASE)
        told: bool | None = None  # whether we said that the store is away; None: another may have said so before us
        try:
            while not stop.is_set():
                pause_s = _STANDBY_S
                try:
                    if await lease.held():
                        batch = await self._archive()
                        pause_s = 0.0 if batch.read >= self._batch else self._idle_s
                        told = told if told is False else await self._tell(stands=False)
                except Exception as error:  # noqa: BLE001 - whatever it is, an archiver that ended would not be missed
                    pause_s = self._retry_s
                    told = told or await self._tell(stands=True, cause=_cause(error))
                await _pause(stop, pause_s)
        finally:
            with contextlib.suppress(RedisError):
                await lease.release()

    async def _tell(self, *, stands: bool, **fields: Any) -> bool | None:
        """Say how it stands with the store; return what was said, None while Redis does not take it."""
        try:
            await self._episodes.tell(Alert.AUDIT_UNAVAILABLE, stands=stands, **fields)
        except (RedisError, OSError):
            return None
        return stands

    async def run_once(self) -> int:
        """Archive one batch, and return how many records it had.

        Raises:
            AuditUnavailable: the store does not answer or is older than this code; the records stay in the stream.
        """
        return (await self._archive()).archived

    async def drain(self) -> int:
        """Archive until the stream is empty, and return how many records this process archived.

        Raises:
            AuditUnavailable: as `run_once`.
        """
        total = 0
        while (batch := await self._archive()).read:
            total += batch.archived
        return total

    async def _archive(self) -> _Batch:
        if not self._ready:
            await self._prepare()
        entries = await self._redis.xrange(AUDIT_STREAM, count=self._next)
        self._next = min(self._most, self._next * 2) if len(entries) == self._next else self._batch
        if not entries:
            return _Batch(0, 0)
        rows = [_read(entry_id, fields) for entry_id, fields in entries]
        async with writing(self._engine) as connection:
            added = await self._extension.extend(connection, rows)
        ARCHIVED.inc(len(added))
        await self._redis.xdel(AUDIT_STREAM, *(entry_id for entry_id, _ in entries))
        if unreadable := sum(row["action"] == Action.STREAM_UNREADABLE for row in added):
            await self._episodes.happened(Alert.AUDIT_STREAM_UNREADABLE, entries=unreadable)
        return _Batch(len(entries), len(added))

    async def _prepare(self) -> None:
        """Make the tables of an empty database, so that a first start by hand works; refuse older ones."""
        if await schema.revision(self._engine) is None:
            await schema.upgrade(self._engine)
            _log.info("audit_tables_created")
        await schema.require(self._engine)
        await partitions.prepare(self._engine)
        self._ready = True


def _read(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Row:
    """Turn a stream entry into a row; one that is no record becomes the record of that, without its content.

    Its id derives from the entry's, so that it too is archived once.
    """
    try:
        given = orjson.loads(fields[FIELD])
        if isinstance(given, dict):
            return to_row(given)
    except (KeyError, orjson.JSONDecodeError, UnreadableDelivery):
        pass
    place = entry_id.decode()
    return to_row(
        {
            "id": f"stream-{place}",
            "at": int(place.partition("-")[0]),
            "action": Action.STREAM_UNREADABLE,
            "portal_id": 0,
            "reason": UnreadableDelivery.reason,
            "detail": {"entry": place, "bytes": sum(map(len, fields.values()))},
        }
    )


def _cause(error: Exception) -> str:
    """Our own sentence, or the class of what somebody else said: its text may quote a value."""
    return str(error) if isinstance(error, AuditUnavailable) else type(error).__name__


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
