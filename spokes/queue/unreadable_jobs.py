"""Jobs that cannot be decoded: removed from the queue, stored without interpretation, and alerted."""

import base64
import re
import zlib
from collections.abc import Collection
from typing import Any, Final

from redis.asyncio import Redis

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.bad_items import READ_ERRORS, read_items
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append
from spokes.core.clock import now_ms
from spokes.core.delivery import decode, encode
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert

_MAX_JOBS: Final = 1000  # a queue full of foreign jobs must not fill Redis
_MAX_UNPACKED_BYTES: Final = 16 * 1024 * 1024  # searched in one job


async def store_unreadable(redis: Redis, job_id: str, job: Any) -> None:
    """Store a foreign job, or one of an unknown version, so that a person or a later version can read it."""
    portal = re.match(r"\d{1,15}(?=-)", job_id)
    record = AuditRecord(
        action=Action.EVENT,
        portal_id=int(portal[0]) if portal else 0,
        outcome=Outcome.DEAD,
        reason="unreadable_delivery",
        delivery_id=job_id[:100],
    )
    raw = job["unreadable"] if isinstance(job, dict) and set(job) == {"unreadable"} else _encode_job(job)
    stored = encode({"id": job_id, "at": now_ms(), "payload": raw})
    async with redis.pipeline(transaction=True) as pipeline:
        append(pipeline, record)
        pipeline.lpush(keys.UNREADABLE_JOBS, stored)
        pipeline.ltrim(keys.UNREADABLE_JOBS, 0, _MAX_JOBS - 1)
        await pipeline.execute()
    await AlertEpisodes(redis).report_once(Alert.UNREADABLE_DELIVERY, job_id=job_id)


async def find_mentioning(redis: Redis, ids: Collection[str]) -> list[bytes]:
    """Return the list entries that mention one of the ids; ids inside an unknown compression are not found."""
    numbers = re.compile(rb"(?<!\d)(?:%s)(?!\d)" % b"|".join(re.escape(id_.encode()) for id_ in ids))
    entries: list[bytes] = await redis.lrange(keys.UNREADABLE_JOBS, 0, -1)  # type: ignore[misc]  # redis-py types one class for sync and async
    return [entry for entry in entries if numbers.search(_searchable_bytes(entry))]


async def delete_before(redis: Redis, before_ms: int) -> int:
    """Delete the jobs stored before an epoch ms; return how many."""
    entries = await redis.lrange(keys.UNREADABLE_JOBS, 0, -1)  # type: ignore[misc]  # as above
    stored_at = await read_items(redis, "unreadable_job", entries, lambda entry: (int(decode(entry)["at"]), entry))
    expired = [entry for at, entry in stored_at if at < before_ms]
    return sum([await redis.lrem(keys.UNREADABLE_JOBS, -1, entry) for entry in expired])  # type: ignore[misc]  # as above


def _searchable_bytes(entry: bytes) -> bytes:
    """Return a job's id and its bytes, decompressed if possible; the entry itself if it is not one of ours."""
    try:
        stored = decode(entry)
        raw = base64.b64decode(stored["payload"])
    except READ_ERRORS:
        return entry
    try:
        plain = repr(decode(raw)).encode()
    except UnreadableDelivery:
        plain = _inflate(raw)
    return b" ".join((str(stored.get("id")).encode(), raw, plain))


def _inflate(raw: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(raw, _MAX_UNPACKED_BYTES)  # zlib or gzip
    except zlib.error:
        return b""


def _encode_job(job: Any) -> str:
    return base64.b64encode(encode({"a": [job]})).decode()
