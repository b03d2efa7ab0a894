"""Keep what nobody can read. Rule: it leaves the queue, is never interpreted, and somebody is told."""

import base64
import re
import zlib
from collections.abc import Collection
from typing import Any, Final

from redis.asyncio import Redis

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append
from spokes.core import clock
from spokes.core.delivery import decode, encode
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert

_MAX_JOBS: Final = 1000  # whoever fills the queue with rubbish must not fill Redis
_MAX_UNPACKED_BYTES: Final = 16 * 1024 * 1024  # bytes that are looked through after unpacking


async def store_unreadable(redis: Redis, job_id: str, job: Any) -> None:
    """Keep a job that is none of ours, or of a version that we do not know, for whoever can read it."""
    portal = re.match(r"\d{1,15}(?=-)", job_id)
    record = AuditRecord(
        action=Action.EVENT,
        portal_id=int(portal[0]) if portal else 0,
        outcome=Outcome.DEAD,
        reason="unreadable_delivery",
        delivery_id=job_id[:100],
    )
    raw = job["unreadable"] if isinstance(job, dict) and set(job) == {"unreadable"} else _encode_job(job)
    async with redis.pipeline(transaction=True) as pipeline:
        append(pipeline, record)
        pipeline.lpush(keys.UNREADABLE_JOBS, encode({"id": job_id, "at": clock.now_ms(), "payload": raw}))
        pipeline.ltrim(keys.UNREADABLE_JOBS, 0, _MAX_JOBS - 1)
        await pipeline.execute()
    await AlertEpisodes(redis).report_once(Alert.UNREADABLE_DELIVERY, job_id=job_id)


async def find_mentioning(redis: Redis, ids: Collection[str]) -> list[bytes]:
    """Return what is kept and mentions an id, as it stands in the list; what is packed in a foreign way is not seen."""
    numbers = re.compile(rb"(?<!\d)(?:%s)(?!\d)" % b"|".join(re.escape(one.encode()) for one in ids))
    kept: list[bytes] = await redis.lrange(keys.UNREADABLE_JOBS, 0, -1)  # type: ignore[misc]  # redis-py types one class for sync and async
    return [entry for entry in kept if numbers.search(_searchable_bytes(decode(entry)))]


async def delete_before(redis: Redis, before_ms: int) -> int:
    """Let go of what was kept before an epoch ms; return how many there were."""
    dropped = 0
    while oldest := await redis.lindex(keys.UNREADABLE_JOBS, -1):  # type: ignore[misc]  # as above
        if decode(oldest)["at"] >= before_ms:
            break
        dropped += await redis.lrem(keys.UNREADABLE_JOBS, -1, oldest)  # type: ignore[misc]  # as above
    return dropped


def _searchable_bytes(stored: dict[str, Any]) -> bytes:
    """The name and the bytes of a job, unpacked where that is possible."""
    raw = base64.b64decode(stored["payload"])
    try:
        plain = repr(decode(raw)).encode()
    except UnreadableDelivery:
        plain = _inflate(raw)
    return b" ".join((str(stored["id"]).encode(), raw, plain))


def _inflate(raw: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(raw, _MAX_UNPACKED_BYTES)  # zlib or gzip
    except zlib.error:
        return b""


def _encode_job(job: Any) -> str:
    return base64.b64encode(encode({"a": [job]})).decode()
