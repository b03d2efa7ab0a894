"""Stream to SQL, in batches, chained. Rule: an entry leaves the stream after its record is committed, never before.

Each record is archived exactly once: whoever extends the chain locks its head, leaves out what is already there, and
only then inserts. A crash between the commit and the removal from the stream therefore repeats nothing.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from audit import schema
from audit.chain import link
from audit.election import Lease
from audit.records import Action
from audit.rows import Row, to_row
from audit.store import open_engine, writing
from audit.stream import FIELD
from audit.tables import HEAD, RECORDS
from core.deliveries import AUDIT_STREAM
from core.errors import AuditUnavailable, UnreadableDelivery
from core.settings import Settings
from core.telemetry import alert

_LEASE: Final = f"{AUDIT_STREAM}:archiver"
_STANDBY_S: Final = 1.0  # how often a process that is not elected asks again
_log = structlog.get_logger()


class _Batch(NamedTuple):
    read: int  # entries
    archived: int  # records; fewer than `read` where some were already there


class Archiver:
    """Carries records from the Redis stream to the store; every worker process runs one, one of them is elected.

    Args:
        batch: records in one transaction, at most.
        idle_s: seconds between looks at the stream once it is empty; also how long records gather.
        retry_s: seconds between attempts while the store does not answer.
    """

    def __init__(
        self, redis: Redis, engine: AsyncEngine, *, batch: int = 500, idle_s: float = 0.2, retry_s: float = 2.0
    ) -> None:
        self._redis = redis
        self._engine = engine
        self._batch = batch
        self._idle_s = idle_s
        self._retry_s = retry_s
        self._ready = False

    @classmethod
    def open(cls, settings: Settings, redis: Redis) -> Self:
        """Build an archiver with an engine of its own, which `close` ends."""
        return cls(redis, open_engine(settings.database_address))

    async def close(self) -> None:
        """Close the connections to the store."""
        await self._engine.dispose()

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Archive until `stop` is set or the task is cancelled; wait out what is down, and alert once each time."""
        stop = stop or asyncio.Event()
        lease = Lease(self._redis, _LEASE)
        down = False
        try:
            while not stop.is_set():
                pause_s = _STANDBY_S
                try:
                    if await lease.held():
                        batch = await self._archive()
                        pause_s = 0.0 if batch.read == self._batch else self._idle_s
                except Exception as error:  # noqa: BLE001 - whatever it is, an archiver that ended would not be missed
                    pause_s = self._retry_s
                    if not down:
                        alert("audit_unavailable", cause=_cause(error))
                    down = True
                else:
                    if down:
                        _log.warning("audit_available")
                    down = False
                await _pause(stop, pause_s)
        finally:
            with contextlib.suppress(RedisError):
                await lease.release()

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
        entries = await self._redis.xrange(AUDIT_STREAM, count=self._batch)
        if not entries:
            return _Batch(0, 0)
        rows = [_read(entry_id, fields) for entry_id, fields in entries]
        async with writing(self._engine) as connection:
            added = await _extend(connection, rows)
        await self._redis.xdel(AUDIT_STREAM, *(entry_id for entry_id, _ in entries))
        if unreadable := sum(row["action"] == Action.STREAM_UNREADABLE for row in added):
            alert("audit_stream_unreadable", entries=unreadable)
        return _Batch(len(entries), len(added))

    async def _prepare(self) -> None:
        """Make the tables of an empty database, so that a first start by hand works; refuse older ones."""
        if await schema.revision(self._engine) is None:
            await schema.upgrade(self._engine)
            _log.info("audit_tables_created")
        await schema.require(self._engine)
        self._ready = True


async def _extend(connection: AsyncConnection, rows: Iterable[Row]) -> list[Row]:
    """Add to the chain, in order, those rows that it does not hold yet; return them."""
    head = (await connection.execute(select(HEAD.c.seq, HEAD.c.hash).with_for_update())).one_or_none()
    if head is None:
        raise AuditUnavailable("The end of the audit's chain is missing: run `python -m console audit verify`.")
    # A writer whose answer was lost appends its record again, so one batch may hold the same record twice.
    by_id: dict[str | int | None, Row] = {}
    for row in rows:
        by_id.setdefault(row["id"], row)
    for known in await connection.scalars(select(RECORDS.c.id).where(RECORDS.c.id.in_(by_id))):
        del by_id[known]
    added = chained(by_id.values(), head.seq, head.hash)
    if added:
        await connection.execute(RECORDS.insert(), added)
        await connection.execute(update(HEAD).values(seq=added[-1]["seq"], hash=added[-1]["hash"]))
    return added


def chained(rows: Iterable[Row], seq: int, previous_hash: str) -> list[Row]:
    """Return the rows with the `seq` and `hash` they get after the record `seq`, whose hash is `previous_hash`."""
    links: list[Row] = []
    for row in rows:
        seq, previous_hash = seq + 1, link(previous_hash, row)
        links.append({"seq": seq, "hash": previous_hash, **row})
    return links


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
