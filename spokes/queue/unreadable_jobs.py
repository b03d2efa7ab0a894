"""Queued jobs and entries that cannot be read: kept in quarantine as they are, recorded and alerted.

Earlier versions kept them unsealed in a list of their own, which is moved into quarantine.
"""

import base64
import hashlib
import re
from collections.abc import Collection, Iterable
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import READ_ERRORS, read_items
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append
from spokes.core.clock import now_ms
from spokes.core.delivery import Delivery, Entry, decode, decompress
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert
from spokes.queue.quarantine import NO_PORTAL, NewContent, Quarantine, inflated

_REASON: Final = UnreadableDelivery.reason
_PORTAL: Final = re.compile(r"[1-9]\d{0,14}(?=-)", re.ASCII)  # at the start of a delivery's id
_KEY: Final = re.compile(r"[0-9a-f]{8,64}")


async def quarantine_job(redis: Redis, quarantine: Quarantine, job_id: str, argument: Any) -> None:
    """Keep a foreign job, or one of an unknown version, so that a later version can take it up."""
    portal = _PORTAL.match(job_id)
    content = _content_of(argument)
    digest = hashlib.blake2b(job_id.encode(errors="replace") + b"\0" + content, digest_size=10).hexdigest()
    contents = [NewContent(int(portal[0]) if portal else NO_PORTAL, digest, _REASON, content)]
    await _keep(redis, quarantine, job_id, contents)


async def quarantine_entries(
    redis: Redis, quarantine: Quarantine, delivery: Delivery, entries: Iterable[Entry]
) -> None:
    """Keep entries of a delivery that are no events, each on its own under its event key."""
    contents = []
    for entry in entries:
        content = orjson.dumps({**delivery.to_job(), "events": [entry.stored]})
        key = entry.key if _KEY.fullmatch(entry.key) else hashlib.blake2b(content, digest_size=10).hexdigest()
        contents.append(NewContent(delivery.portal_id, key, _REASON, content))
    await _keep(redis, quarantine, delivery.id, contents)


async def adopt_unreadable_jobs(redis: Redis, quarantine: Quarantine) -> int:
    """Move the jobs that earlier versions kept in a list into quarantine; return how many."""
    entries = await redis.lrange(keys.UNREADABLE_JOBS, 0, -1)  # type: ignore[misc]  # redis-py types one class for sync and async
    for entry in entries:
        for job_id, content, at in await read_items(redis, "unreadable_job", [entry], _read_listed):
            portal = _PORTAL.match(job_id)
            digest = hashlib.blake2b(entry, digest_size=10).hexdigest()
            new = NewContent(int(portal[0]) if portal else NO_PORTAL, digest, _REASON, content)
            await quarantine.keep([new], delivery_id=job_id[:100], alert=Alert.UNREADABLE_DELIVERY, at=at)
            await redis.lrem(keys.UNREADABLE_JOBS, 0, entry)  # type: ignore[misc]  # as above
    return len(entries)


async def find_mentioning(redis: Redis, ids: Collection[str]) -> list[bytes]:
    """Return the list entries that mention one of the ids; ids inside an unknown compression are not found."""
    numbers = re.compile(rb"(?<!\d)(?:%s)(?!\d)" % b"|".join(re.escape(id_.encode()) for id_ in ids))
    entries: list[bytes] = await redis.lrange(keys.UNREADABLE_JOBS, 0, -1)  # type: ignore[misc]  # as above
    return [entry for entry in entries if numbers.search(_searchable_bytes(entry))]


async def delete_before(redis: Redis, before_ms: int) -> int:
    """Delete the jobs stored in the list before an epoch ms; return how many."""
    entries = await redis.lrange(keys.UNREADABLE_JOBS, 0, -1)  # type: ignore[misc]  # as above
    stored_at = await read_items(redis, "unreadable_job", entries, lambda entry: (int(decode(entry)["at"]), entry))
    expired = [entry for at, entry in stored_at if at < before_ms]
    return sum([await redis.lrem(keys.UNREADABLE_JOBS, -1, entry) for entry in expired])  # type: ignore[misc]  # as above


async def _keep(redis: Redis, quarantine: Quarantine, job_id: str, contents: Collection[NewContent]) -> None:
    """Keep contents and alert; then record each of them as the end of what it holds."""
    alert = Alert.UNREADABLE_DELIVERY
    await quarantine.keep(contents, delivery_id=job_id[:100], alert=alert, job_id=job_id[:100])
    async with redis.pipeline(transaction=True) as pipeline:
        for content in contents:
            record = AuditRecord(
                action=Action.EVENT, outcome=Outcome.DEAD, reason=content.reason, portal_id=content.portal_id,
                event_key=content.key, delivery_id=job_id[:100],
            )  # fmt: skip
            append(pipeline, record)
        await pipeline.execute()


def _content_of(argument: Any) -> bytes:
    """Return an argument as JSON; one that was not read, as the JSON in its payload, or else as it is."""
    if not isinstance(argument, dict) or set(argument) != {"unreadable"}:
        return orjson.dumps(argument, default=repr)
    try:
        payload = base64.b64decode(argument["unreadable"])
    except (TypeError, ValueError):
        return orjson.dumps(argument, default=repr)
    return _unpacked(payload)


def _unpacked(payload: bytes) -> bytes:
    try:
        return decompress(payload)
    except UnreadableDelivery:
        return payload


def _read_listed(entry: bytes) -> tuple[str, bytes, int]:
    stored = decode(entry)
    return str(stored["id"]), _unpacked(base64.b64decode(stored["payload"])), min(int(stored["at"]), now_ms())


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
        plain = inflated(raw)
    return b" ".join((str(stored.get("id")).encode(), raw, plain))
