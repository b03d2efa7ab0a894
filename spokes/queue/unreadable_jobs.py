"""Keep what nobody can read. Rule: it leaves the queue, is never interpreted, and somebody is told."""

import base64
import re
import time
import zlib
from collections.abc import Collection
from typing import Any, Final

from redis.asyncio import Redis

from spokes.audit.alert_episodes import Episodes
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append
from spokes.core.delivery import decode, encode
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert

_MOST: Final = 1000  # whoever fills the queue with rubbish must not fill Redis
_LARGEST: Final = 16 * 1024 * 1024  # bytes that are looked through after unpacking


async def keep_unreadable(redis: Redis, job_id: str, job: Any) -> None:
    """Keep a job that is none of ours, or of a version that we do not know, for whoever can read it."""
    portal = re.match(r"\d{1,15}(?=-)", job_id)
    record = AuditRecord(
        action=Action.EVENT,
        portal_id=int(portal[0]) if portal else 0,
        outcome=Outcome.DEAD,
        reason="unreadable_delivery",
        delivery_id=job_id[:100],
    )
    raw = job["unreadable"] if isinstance(job, dict) and set(job) == {"unreadable"} else _text(job)
    async with redis.pipeline(transaction=True) as pipeline:
        append(pipeline, record)
        pipeline.lpush(keys.UNREADABLE, encode({"id": job_id, "at": time.time_ns() // 1_000_000, "payload": raw}))
        pipeline.ltrim(keys.UNREADABLE, 0, _MOST - 1)
        await pipeline.execute()
    await Episodes(redis).happened(Alert.UNREADABLE_DELIVERY, job_id=job_id)


async def mentioning(redis: Redis, ids: Collection[str]) -> list[bytes]:
    """Return what is kept and mentions an id, as it stands in the list; what is packed in a foreign way is not seen."""
    numbers = re.compile(rb"(?<!\d)(?:%s)(?!\d)" % b"|".join(re.escape(one.encode()) for one in ids))
    kept: list[bytes] = await redis.lrange(keys.UNREADABLE, 0, -1)  # type: ignore[misc]  # redis-py types one class for sync and async
    return [entry for entry in kept if numbers.search(_searchable(decode(entry)))]


async def drop_older(redis: Redis, before_ms: int) -> int:
    """Let go of what was kept before an epoch ms; return how many there were."""
    dropped = 0
    while oldest := await redis.lindex(keys.UNREADABLE, -1):  # type: ignore[misc]  # as above
        if decode(oldest)["at"] >= before_ms:
            break
        dropped += await redis.lrem(keys.UNREADABLE, -1, oldest)  # type: ignore[misc]  # as above
    return dropped


def _searchable(kept: dict[str, Any]) -> bytes:
    """The name and the bytes of a job, unpacked where that is possible."""
    raw = base64.b64decode(kept["payload"])
    try:
        plain = repr(decode(raw)).encode()
    except UnreadableDelivery:
        plain = _inflated(raw)
    return b" ".join((str(kept["id"]).encode(), raw, plain))


def _inflated(raw: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(raw, _LARGEST)  # zlib or gzip
    except zlib.error:
        return b""


def _text(job: Any) -> str:
    return base64.b64encode(encode({"a": [job]})).decode()
