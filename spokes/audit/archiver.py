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

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.chain_writer import ChainWriter
from spokes.audit.records import Action
from spokes.audit.rows import Row, to_row
from spokes.audit.sql import partitions, schema
from spokes.audit.sql.engine import open_engine, write_connection
from spokes.audit.stream import ENTRY_FIELD
from spokes.core.delivery import AUDIT_STREAM
from spokes.core.errors import AuditUnavailable, UnreadableDelivery
from spokes.core.redis.leader_lock import LeaderLock
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.metrics import ARCHIVED

_LEADER_KEY: Final = f"{AUDIT_STREAM}:archiver"
_MAX_GROWTH: Final = 8  # a batch of 4,000 costs a third less per record than one of 500
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
        self,
        redis: Redis,
        engine: AsyncEngine,
        master_key: str,
        *,
        batch_size: int = 500,
        checkpoint_every: int = 10_000,
        idle_s: float = 0.2,
        retry_s: float = 2.0,
    ) -> None:
        self._redis = redis
        self._engine = engine
        self._episodes = AlertEpisodes(redis)
        self._batch_size = batch_size
        self._max_batch = batch_size * _MAX_GROWTH
        self._next_batch = batch_size  # how many to take next time
        self._chain_writer = ChainWriter(master_key, checkpoint_every)
        self._idle_s = idle_s
        self._retry_s = retry_s
        self._is_prepared = False

    @classmethod
    def open(cls, settings: Settings, redis: Redis) -> Self:
        """Build an archiver with an engine of its own, which `close` ends."""
        engine = open_engine(settings.database_address)
        return cls(redis, engine, settings.master_key(), checkpoint_every=settings.checkpoint_every)

    async def close(self) -> None:
        """Close the connections to the store."""
        await self._engine.dispose()

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Archive until `stop` is set or the task is cancelled; wait out what is down, and alert once each time."""
        stop = stop or asyncio.Event()
        lease = LeaderLock(self._redis, _LEADER_KEY)
        told: bool | None = None  # whether we said that the store is away; None: another may have said so before us
        try:
            while not stop.is_set():
                pause_s = _STANDBY_S
                try:
                    if await lease.is_leader():
                        batch = await self._archive()
                        pause_s = 0.0 if batch.read >= self._batch_size else self._idle_s
                        told = told if told is False else await self._set_alert(is_active=False)
                except Exception as error:  # noqa: BLE001 - whatever it is, an archiver that ended would not be missed
                    pause_s = self._retry_s
                    told = told or await self._set_alert(is_active=True, cause=_describe_error(error))
                await _pause(stop, pause_s)
        finally:
            with contextlib.suppress(RedisError):
                await lease.release()

    async def _set_alert(self, *, is_active: bool, **fields: Any) -> bool | None:
        """Say how it stands with the store; return what was said, None while Redis does not take it."""
        try:
            await self._episodes.set_state(Alert.AUDIT_UNAVAILABLE, is_active=is_active, **fields)
        except (RedisError, OSError):
            return None
        return is_active

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
        if not self._is_prepared:
            await self._prepare()
        entries = await self._redis.xrange(AUDIT_STREAM, count=self._next_batch)
        self._next_batch = (
            min(self._max_batch, self._next_batch * 2) if len(entries) == self._next_batch else self._batch_size
        )
        if not entries:
            return _Batch(0, 0)
        rows = [_row_of_entry(entry_id, fields) for entry_id, fields in entries]
        async with write_connection(self._engine) as connection:
            added = await self._chain_writer.append(connection, rows)
        ARCHIVED.inc(len(added))
        await self._redis.xdel(AUDIT_STREAM, *(entry_id for entry_id, _ in entries))
        if unreadable := sum(row["action"] == Action.STREAM_UNREADABLE for row in added):
            await self._episodes.report_once(Alert.AUDIT_STREAM_UNREADABLE, entries=unreadable)
        return _Batch(len(entries), len(added))

    async def _prepare(self) -> None:
        """Make the tables of an empty database, so that a first start by hand works; refuse older ones."""
        if await schema.revision(self._engine) is None:
            await schema.upgrade(self._engine)
            _log.info("audit_tables_created")
        await schema.require_current(self._engine)
        await partitions.create_missing(self._engine)
        self._is_prepared = True


def _row_of_entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Row:
    """Turn a stream entry into a row; one that is no record becomes the record of that, without its content.

    Its id derives from the entry's, so that it too is archived once.
    """
    try:
        given = orjson.loads(fields[ENTRY_FIELD])
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


def _describe_error(error: Exception) -> str:
    """Our own sentence, or the class of what somebody else said: its text may quote a value."""
    return str(error) if isinstance(error, AuditUnavailable) else type(error).__name__


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
