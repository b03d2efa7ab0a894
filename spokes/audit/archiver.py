"""Move audit records from the Redis stream to SQL, in batches, and chain them.

An entry leaves the stream only after its record is committed. Each record is archived exactly once: the chain writer
locks the chain's head, skips records that are archived already, and only then inserts the others. A crash between the
commit and the removal from the stream therefore repeats nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.chain_writer import ChainWriter
from spokes.audit.entry_signature import Signature, split_signature
from spokes.audit.evidence.chain_end import ChainEnd, KnownEnd, contradicts
from spokes.audit.evidence.upgrade_window import load_unsigned_until
from spokes.audit.masked_rows import mask_row
from spokes.audit.records import Action
from spokes.audit.rows import Row, to_row
from spokes.audit.sql import partitions, schema
from spokes.audit.sql.chain_head import lock_head
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.transactions import WriteTransactions
from spokes.audit.stream import ENTRY_FIELD
from spokes.core.clock import now_ms, wait_for_stop
from spokes.core.errors import AuditUnavailable, UnreadableDelivery
from spokes.core.master_key import load_master_key
from spokes.core.redis.keys import ARCHIVER_LEADER, AUDIT_STREAM
from spokes.core.redis.leader_lock import LeaderLock
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.metrics import ARCHIVED

_MAX_GROWTH: Final = 8  # batch sizes: per record, a batch of 4,000 costs a third less than one of 500
_REPORTED: Final = {
    Action.STREAM_UNREADABLE: Alert.AUDIT_STREAM_UNREADABLE,
    Action.STREAM_FORGED: Alert.AUDIT_STREAM_FORGED,
}
_TASK: Final = "archiver"
_WAKE_MS: Final = 500  # of one blocking read; it ends a stop no later than this
_STANDBY_S: Final = 1.0  # between two attempts of a process to become the leader
_log = structlog.get_logger()


class _Batch(NamedTuple):
    read: int  # entries
    archived: int  # records; fewer than `read` if some were archived already


class Archiver:
    """Moves records from the Redis stream to the store; every worker process runs one, but only the leader's archives.

    Args:
        master_key: `load_master_key`; the keys for signatures and for object hashes derive from it.
        batch_size: records in one transaction; up to eight times as many while the stream holds more.
        checkpoint_every: records between two checkpoints.
        gather_s: seconds from the start of one small batch to that of the next, in which records accumulate.
        retry_s: seconds between attempts while the store does not answer.
    """

    def __init__(
        self, redis: Redis, engine: AsyncEngine, master_key: str, *, batch_size: int = 500,
        checkpoint_every: int = 10_000, gather_s: float = 0.025, retry_s: float = 2.0,
    ) -> None:  # fmt: skip
        self._redis = redis
        self._engine = engine
        self._transactions = WriteTransactions(engine)
        self._episodes = AlertEpisodes(redis)
        self._batch_size = batch_size
        self._max_batch = batch_size * _MAX_GROWTH
        self._next_batch = batch_size
        self._chain_writer = ChainWriter(master_key, checkpoint_every)
        self._gather_s = gather_s
        self._last_id: bytes | str = "0-0"  # of the stream's entries that were read
        self._retry_s = retry_s
        self._chain_end = ChainEnd(redis, master_key)
        self._unsigned_until = 0
        self._is_broken = False
        self._is_prepared = False

    @classmethod
    def open(cls, settings: Settings, redis: Redis) -> Self:
        """Build an archiver with an engine of its own, which `close` disposes."""
        engine = open_engine(settings.database_address)
        return cls(redis, engine, load_master_key(settings), checkpoint_every=settings.checkpoint_every)

    async def close(self) -> None:
        """Close the connections to the store."""
        await self._engine.dispose()

    async def run(self, stop: asyncio.Event | None = None, *, outage: RedisOutage | None = None) -> None:
        """Archive until `stop` is set or the task is cancelled; wait out outages, and alert once for each of the store.

        Nothing here needs memory of Redis but the alerts: archiving is what frees a full Redis.
        """
        stop, outage = stop or asyncio.Event(), outage or RedisOutage()
        leader_lock = LeaderLock(self._redis, ARCHIVER_LEADER)
        next_batch_at = 0.0  # on the monotonic clock
        alerted: bool | None = None  # the alert's state; None if unknown, because another process may have set it
        try:
            while not stop.is_set():
                pause_s = _STANDBY_S
                try:
                    began = time.monotonic()
                    is_leader = await leader_lock.is_leader()
                    outage.mark_available(_TASK)
                    if is_leader:
                        batch = await self._archive()
                        pause_s = 0.0
                        alerted = alerted if alerted is False else await self._set_alert(is_active=False)
                        next_batch_at = began + self._gather_s if batch.read else next_batch_at
                        if batch.read < self._batch_size and await self._has_next_record(stop):
                            pause_s = max(next_batch_at - time.monotonic(), 0.0)
                except RedisError as error:
                    await outage.wait(error, _TASK)
                    pause_s = 0.0
                except Exception as error:  # noqa: BLE001 - the archiver continues after any error
                    pause_s = self._retry_s
                    alerted = alerted or await self._set_alert(is_active=True, cause=_describe_error(error))
                await wait_for_stop(stop, pause_s)
        finally:
            await self._transactions.close()
            with contextlib.suppress(RedisError):
                await leader_lock.release()

    async def _has_next_record(self, stop: asyncio.Event) -> bool:
        """Wait for a record after those that were read, for at most `_WAKE_MS`; return whether there is one."""
        read = asyncio.ensure_future(self._redis.xread({AUDIT_STREAM: self._last_id}, count=1, block=_WAKE_MS))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((read, stopping), return_when=asyncio.FIRST_COMPLETED)
            return bool(read.done() and read.result())
        finally:
            read.cancel()
            stopping.cancel()

    async def _set_alert(self, *, is_active: bool, **fields: Any) -> bool | None:
        """Set whether the store is unavailable; return the new state, None during the hold-down or without Redis."""
        try:
            is_set = await self._episodes.set_state(Alert.AUDIT_UNAVAILABLE, is_active=is_active, **fields)
        except (RedisError, OSError):
            return None
        return is_active if is_set else None

    async def run_once(self) -> int:
        """Archive one batch; return how many records it had.

        Raises:
            AuditUnavailable: the store does not answer or is older than this code; the records stay in the stream.
        """
        try:
            return (await self._archive()).archived
        finally:
            await self._transactions.close()

    async def drain(self) -> int:
        """Archive until the stream is empty; return how many records this process archived.

        Raises:
            AuditUnavailable: as `run_once`.
        """
        total = 0
        try:
            while (batch := await self._archive()).read:
                total += batch.archived
        finally:
            await self._transactions.close()
        return total

    async def _archive(self) -> _Batch:
        if not self._is_prepared:
            await self._prepare()
        entries, known = await self._read()
        is_full = len(entries) == self._next_batch
        self._next_batch = min(self._max_batch, self._next_batch * 2) if is_full else self._batch_size
        if not entries:
            return _Batch(0, 0)
        self._last_id = entries[-1][0]
        accepts_unsigned = now_ms() < self._unsigned_until
        rows = [_row_of_entry(entry_id, fields, accepts_unsigned) for entry_id, fields in entries]

        def append(connection: Connection) -> tuple[bool, list[Row]]:
            head = lock_head(connection, known.end.seq if known.end else 0)
            return contradicts(head, known.end), self._chain_writer.append(connection, rows, head)

        is_broken, added = await self._transactions.run(append)
        ARCHIVED.inc(len(added))
        await self._remove([entry_id for entry_id, _ in entries], [] if is_broken else added)
        with contextlib.suppress(RedisError):  # what is reported is in the log and in the archive
            await self._report(added, is_broken=is_broken)
        return _Batch(len(entries), len(added))

    async def _read(self) -> tuple[list[tuple[bytes, dict[bytes, bytes]]], KnownEnd]:
        """Return the oldest entries of the stream, and what Redis keeps of the chain's end."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            self._chain_end.read(pipeline)
            pipeline.xrange(AUDIT_STREAM, count=self._next_batch)
            fields, entries = await pipeline.execute()
        return entries, self._chain_end.parse(fields)

    async def _remove(self, entry_ids: list[bytes], added: list[Row]) -> None:
        """Remove archived entries from the stream, and keep the chain's new end, for which a full Redis has no room."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xdel(AUDIT_STREAM, *entry_ids)
            if added:
                self._chain_end.write(pipeline, added[-1], self._chain_writer.new_checkpoint)
            removed, *_ = await pipeline.execute(raise_on_error=False)
        if isinstance(removed, RedisError):
            raise removed

    async def _report(self, added: list[Row], *, is_broken: bool) -> None:
        """Alert for entries that are unreadable or not ours, and once for a chain that contradicts the end we knew."""
        for action, alert in _REPORTED.items():
            if count := sum(row["action"] == action for row in added):
                await self._episodes.report_once(alert, entries=count)
        if is_broken and not self._is_broken:
            await self._episodes.set_state(Alert.AUDIT_CHAIN_BROKEN, is_active=True, found="end_of_chain")
        self._is_broken = is_broken

    async def _prepare(self) -> None:
        """Create the tables of an empty database, so that a first manual start works; refuse older and foreign ones."""
        if await schema.revision(self._engine) is None:
            await schema.upgrade(self._engine)
            _log.info("audit_tables_created")
        await schema.require_current(self._engine)
        await self._chain_end.require_own_key(self._engine)
        await partitions.create_missing(self._engine)
        self._unsigned_until = await load_unsigned_until(self._redis, self._engine)
        self._is_prepared = True


def _row_of_entry(entry_id: bytes, fields: Mapping[bytes, bytes], accepts_unsigned: bool) -> Row:  # noqa: FBT001 - a result of the caller's
    """Return the row of a stream entry.

    An unreadable entry becomes a `stream.unreadable` record, and one without our signature a `stream.forged` record,
    both without its content. The id of that record derives from the entry's id, so that it too is archived once.
    """
    action = Action.STREAM_UNREADABLE
    try:
        payload, signature = split_signature(fields[ENTRY_FIELD])
        record_fields = orjson.loads(payload)
        if isinstance(record_fields, dict):
            row = mask_row(to_row(record_fields))
            if signature is Signature.GENUINE or (accepts_unsigned and signature is Signature.MISSING):
                return row
            action = Action.STREAM_FORGED
    except (KeyError, orjson.JSONDecodeError, UnreadableDelivery):
        pass
    entry = entry_id.decode()
    return to_row(
        {
            "id": f"stream-{entry}",
            "at": int(entry.partition("-")[0]),
            "action": action,
            "portal_id": 0,
            "reason": UnreadableDelivery.reason if action is Action.STREAM_UNREADABLE else "forged",
            "detail": {"entry": entry, "bytes": sum(map(len, fields.values()))},
        }
    )


def _describe_error(error: Exception) -> str:
    """Return our own message, or only the class of a library's error, whose text may quote a value."""
    return str(error) if isinstance(error, AuditUnavailable) else type(error).__name__
