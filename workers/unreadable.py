"""Keep what nobody can read. Rule: it leaves the queue, is never interpreted, and somebody is told."""

import base64
import re
import time
from typing import Any, Final

from redis.asyncio import Redis

from audit.records import Action, AuditRecord, Outcome
from audit.stream import append
from core.deliveries import encode
from core.telemetry import alert
from workers import keys

_MOST: Final = 1000  # whoever fills the queue with rubbish must not fill Redis


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
    alert("unreadable_delivery", job_id=job_id)


def _text(job: Any) -> str:
    return base64.b64encode(encode({"a": [job]})).decode()
