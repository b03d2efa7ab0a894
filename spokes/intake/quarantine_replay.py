"""Admit quarantined contents again, after a fix of what made them unreadable."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.bad_items import READ_ERRORS
from spokes.audit.records import Outcome
from spokes.core import clock
from spokes.core.delivery import MAX_BODY_VALUES, Delivery, job_payload, new_delivery_id
from spokes.core.errors import QueueUnavailable, RejectedRequest, SecretUnreadable, UnreadableDelivery
from spokes.core.json_reading.json_size import has_more_values
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_KEY_PREFIX, QUEUES
from spokes.intake.body_parser import parse_body
from spokes.intake.event_source import EventSource
from spokes.intake.journal.page_events import read_content
from spokes.queue.quarantine import Quarantine, QuarantinedContent


class ReplayCounts(NamedTuple):
    """How many contents were admitted, and how many are still unreadable and stay in quarantine."""

    admitted: int
    unreadable: int


class QuarantineReplay:
    """Replays contents as the receiver would take them now; events that were admitted before are dropped as known."""

    def __init__(self, redis: Redis, quarantine: Quarantine, source: EventSource) -> None:
        self._redis = redis
        self._quarantine = quarantine
        self._source = source

    async def replay(
        self, contents: Iterable[QuarantinedContent], *, actor: str, reason: str, address: str = ""
    ) -> ReplayCounts:
        """Admit the events in the contents, then close these; a content without a readable event stays.

        Raises:
            QueueUnavailable: Redis did not confirm; the content stays and may be replayed again.
        """
        admitted = unreadable = 0
        for content in contents:
            if await self._admit(content):
                admitted += await self._quarantine.close(
                    content, Outcome.REPLAYED, actor=actor, reason=reason, address=address
                )
            else:
                unreadable += 1
        return ReplayCounts(admitted, unreadable)

    async def _admit(self, content: QuarantinedContent) -> bool:
        if content.is_delivery:
            return await self._queue_again(content)
        try:
            body = self._quarantine.open(content)
        except (SecretUnreadable, *READ_ERRORS):
            return False
        try:
            parsed = parse_body(body)
        except (RejectedRequest, *READ_ERRORS):
            parsed = None
        if parsed is None or not parsed.events:
            parsed = read_content(body)  # perhaps it came from the journal
        if not parsed.events:
            return False
        await self._source.admit_parsed(parsed)  # malformed elements of a body are kept on their own from now on
        return True

    async def _queue_again(self, content: QuarantinedContent) -> bool:
        """Queue the events of a stored delivery that are not settled, as a new delivery; False if none is readable."""
        try:
            stored = stored_delivery(self._quarantine.open(content))
        except (SecretUnreadable, *READ_ERRORS):
            return False
        try:
            settled = await self._redis.smembers(keys.settled_events(stored.portal_id, stored.id))  # type: ignore[misc]  # redis-py types one class for sync and async
            unsettled = [entry for entry in stored.entries if entry.key.encode() not in settled]
            entries = tuple(entry._replace(intake="replay") for entry in unsettled)
            delivery = replace(stored, id=new_delivery_id(stored.portal_id), entries=entries)
            now = clock.now_ms()
            async with self._redis.pipeline(transaction=True) as pipeline:
                if entries:
                    pipeline.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, now))
                    pipeline.zadd(QUEUES[delivery.priority], {delivery.id: now})
                await pipeline.execute()
        except (RedisError, OSError) as error:
            raise QueueUnavailable from error
        return True


def stored_delivery(content: bytes) -> Delivery:
    """Return the delivery in a job, or in the argument of one, of which at least one entry is an event.

    Raises:
        UnreadableDelivery: it is none, or none of its entries is an event.
    """
    if has_more_values(content, MAX_BODY_VALUES):
        raise UnreadableDelivery
    try:
        job = orjson.loads(content)
        delivery = Delivery.from_job(job["a"][0] if isinstance(job, dict) and "a" in job else job)
    except (ValueError, TypeError, LookupError) as error:
        raise UnreadableDelivery from error
    if not any(entry.is_event for entry in delivery.entries):
        raise UnreadableDelivery
    return delivery
